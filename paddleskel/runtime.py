"""What the process must be told before and after paddle is imported: maths library, threads, memory, device, seeds.

Paddle reads most of these from the environment while it is imported, so every package of paddleskel that needs paddle
calls `import_paddle()` first. What a user has set is never overwritten.
"""

import contextlib
import ctypes
import io
import os
import platform
import random
import re
import sys
import warnings
from pathlib import Path

import numpy as np

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8  # <malloc.h>
_THREAD_WARNING = ("OMP_NUM_THREADS set to", "PLEASE USE OMP_NUM_THREADS WISELY")


def cpuinfo() -> str:
    """Return the text of /proc/cpuinfo, "" on systems without it."""
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ""


def mkl_cpu_type(cpuinfo: str) -> str | None:
    """Return the MKL_DEBUG_CPU_TYPE that suits a processor, given the text of /proc/cpuinfo; None leaves MKL alone.

    Paddle ships a 2019 MKL that takes its slowest path on processors it does not know, AMD's among them.
    """
    fields = dict(line.split(":", 1) for line in cpuinfo.splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in fields.items()}
    if fields.get("vendor_id", "GenuineIntel") == "GenuineIntel":
        return None
    flags = set(fields.get("flags", "").split())
    if {"avx512f", "avx512dq", "avx512bw", "avx512vl"} <= flags:
        return "7"
    return "5" if {"avx2", "fma"} <= flags else None


def has_bfloat16(cpuinfo: str) -> bool:
    """Whether a processor computes with bfloat16, given the text of /proc/cpuinfo."""
    flags = set(re.findall(r"^flags\s*:(.*)$", cpuinfo, re.MULTILINE)[0].split()) if "flags" in cpuinfo else set()
    return bool(flags & {"avx512_bf16", "amx_bf16"})


def available_cores() -> int:
    """Count the processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_threads() -> int:
    """Return the number of threads a kernel may use: OMP_NUM_THREADS, or else every core of this process."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) > 0 else available_cores()


def prepare_environment() -> None:
    """Set the environment paddle reads on import. Does nothing once paddle is loaded, and never over a user's value."""
    if "paddle" in sys.modules:
        return
    if cpu_type := mkl_cpu_type(cpuinfo()):
        os.environ.setdefault("MKL_DEBUG_CPU_TYPE", cpu_type)
    local_ranks = int(os.environ.get("PADDLE_LOCAL_SIZE", "1") or 1)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, available_cores() // local_ranks)))
    os.environ.setdefault("GLOG_minloglevel", "2")  # paddle's C++ chatter; errors still come as exceptions
    for harmless in (
        "No ccache found",
        "When training, we now always track global mean and variance",
        "Tensor do not have 'place' interface for pir graph mode",
    ):
        warnings.filterwarnings("ignore", message=harmless)


def keep_freed_memory() -> None:
    """Tell glibc to keep large blocks it is given back, instead of returning them to the system.

    By default every tensor above 32 MiB is unmapped when freed and faulted in again, page by page, when the next one is
    made; that costs several times the arithmetic of a memory-bound layer. All threads share what is kept. Set
    PADDLESKEL_KEEP_MEMORY=0 to leave glibc alone.
    """
    if os.environ.get("PADDLESKEL_KEEP_MEMORY", "1") == "0" or platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    libc.mallopt(_M_ARENA_MAX, 1)


def import_paddle(tuned: bool = True) -> None:
    """Import paddle with the environment prepared, without its warning about a thread count we chose on purpose.

    tuned=False imports it as it comes, for comparison.
    """
    if "paddle" in sys.modules:
        return
    if tuned:
        prepare_environment()
        keep_freed_memory()
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            import paddle  # noqa: F401
    finally:
        for line in said.getvalue().splitlines():
            if not any(known in line for known in _THREAD_WARNING):
                print(line, file=sys.stderr)


def select_device(use_gpu: bool | None = None) -> str:
    """Choose and set paddle's device; return "cpu" or "gpu".

    Args:
        use_gpu: True asks for a GPU and falls back to the CPU, saying so; None takes a GPU if there is one.
    """
    import_paddle()
    import paddle

    found = paddle.device.is_compiled_with_cuda() and paddle.device.cuda.device_count() > 0
    if use_gpu and not found:
        built = "finds no GPU" if paddle.device.is_compiled_with_cuda() else "is a build without CUDA"
        print(f"note: a GPU was asked for, but this paddlepaddle {built}; using the CPU", file=sys.stderr)
    device = "gpu" if found and use_gpu is not False else "cpu"
    paddle.set_device(device)
    return device


def seed_everything(seed: int) -> None:
    """Seed paddle's, numpy's and Python's global generators. The data pipeline needs none of them: it seeds per
    sample.
    """
    import_paddle()
    import paddle

    paddle.seed(seed % 2**32)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def make_deterministic() -> None:
    """Ask paddle for kernels that give the same bits in every run (slower on a GPU; the CPU kernels already do)."""
    import paddle

    wanted = {
        "FLAGS_cudnn_deterministic": True,
        "FLAGS_cudnn_exhaustive_search": False,
        "FLAGS_embedding_deterministic": 1,
    }
    for flag, value in wanted.items():
        with contextlib.suppress(ValueError):  # a CPU build does not know the cudnn flags
            paddle.set_flags({flag: value})
