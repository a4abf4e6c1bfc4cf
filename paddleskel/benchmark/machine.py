"""What the figures were measured on."""

import importlib.metadata
import platform

from paddleskel import runtime


def processor() -> str:
    """The processor's name, as the system gives it."""
    for line in runtime.cpuinfo().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def describe(threads: int) -> dict[str, str | int]:
    """Processor, cores, threads, versions, and paddleskel's CPU setting."""
    versions = {}
    for package in ("paddlepaddle", "paddlepaddle-gpu", "numpy"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "processor": processor(),
        "cores": runtime.available_cores(),
        "threads": threads,
        "python": platform.python_version(),
        "system": platform.system(),
        **versions,
        "MKL_DEBUG_CPU_TYPE": runtime.mkl_cpu_type(runtime.cpuinfo()) or "-",
    }
