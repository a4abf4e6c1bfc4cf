"""Memory of this process. Standard library only, as processes read this file that do not import paddleskel."""

import resource
import sys


def peak_mib() -> float:
    """Largest resident memory so far, in MiB."""
    try:
        with open("/proc/self/status", encoding="utf-8", errors="replace") as status:
            peak = next(line for line in status if line.startswith("VmHWM:"))
        return int(peak.split()[1]) / 2**10
    except (OSError, StopIteration):  # not on Linux, where the next line counts the process that started this one too
        unit = 2**20 if sys.platform == "darwin" else 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
