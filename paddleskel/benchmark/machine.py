"""What the figures were measured on."""

import importlib.metadata
import platform

from paddleskel import runtime


def processor() -> str:
    """The processor's name, as the system gives it."""
    try:
        for line in open("/proc/cpuinfo", encoding="utf-8"):
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def describe(threads: int) -> dict[str, str | int]:
    """Processor, cores, threads, versions, and paddleskel's CPU setting."""
    versions = {}
    for package in ("paddlepaddle", "paddlepaddle-gpu", "numpy"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    try:
        setting = runtime.mkl_cpu_type(open("/proc/cpuinfo", encoding="utf-8").read())
    except OSError:
        setting = None
    return {
        "processor": processor(),
        "cores": runtime.available_cores(),
        "threads": threads,
        "python": platform.python_version(),
        "system": platform.system(),
        **versions,
        "MKL_DEBUG_CPU_TYPE": setting or "-",
    }
