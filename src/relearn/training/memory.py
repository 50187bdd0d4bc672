"""Keeping freed memory in the process: on a CPU it decides the speed of a small net.

glibc hands blocks above a threshold back to the system as soon as they are freed, so that every
step asks for fresh pages and the kernel clears them again. With the thresholds raised the pages
stay, and a training step of the width-32 convnet takes about a third less time
(``benchmarks/bench_zap.py`` prints the figure).
"""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names of glibc's malloc.h
_KEEP_BYTES = 1 << 30


def keep_freed_memory() -> bool:
    """Tell the C library to keep freed memory for the next step, and return whether it did.

    It changes the whole process, so only worker processes and nodes call it, never an import.
    Anything but glibc on Linux is left as it is.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    done = [mallopt(name, _KEEP_BYTES) for name in (_MMAP_THRESHOLD, _TRIM_THRESHOLD)]
    return all(done)
