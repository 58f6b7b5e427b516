"""This machine: its processor, its memory, and how fast its cores read that memory."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ..ops.numba.machine import usable_cores
from .memory import machine_memory

_BUFFER = 512 << 20  # bytes: more than any cache holds
_PASSES = 8


def cpu_model() -> str:
    """The processor's name, as its maker or the system calls it."""
    if sys.platform == "darwin":
        asked = subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True)
        return asked.stdout.strip() or platform.machine()
    named = (line for line in _lines("/proc/cpuinfo") if line.startswith(("model name", "Model\t")))
    return next(named, "").partition(":")[2].strip() or platform.processor() or platform.machine()


def free_memory() -> int:
    """Bytes that this process could take now: of the machine's, or of its container's limit."""
    free = _kilobytes("/proc/meminfo", "MemAvailable:")
    return machine_memory() if free is None else min(free, machine_memory())


def peak_memory() -> int:
    """The most bytes that this process has held in memory, mapped files counted as far as they were read."""
    # ru_maxrss is second choice: on Linux a child process begins with its parent's.
    peak = _kilobytes("/proc/self/status", "VmHWM:")
    if peak is not None:
        return peak
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return held if sys.platform == "darwin" else held * 1024


def read_bandwidth(threads: int | None = None) -> float:
    """Bytes a second that `threads` cores (None: all) read together: the best of several passes.

    Each core sums a part of a buffer that no cache holds; NumPy's sum is faster than memory, and lets go of
    the interpreter. On a machine with other work it says what is left.
    """
    count = threads or usable_cores()
    size = min(_BUFFER, free_memory() // 8) // (8 * count)
    with ThreadPoolExecutor(count) as pool:
        together = threading.Barrier(count)

        def part(_: int) -> np.ndarray:
            together.wait()  # one part a thread, so that its memory is near that thread
            return np.ones(size, np.uint64)

        parts = list(pool.map(part, range(count)))
        times = []
        for _ in range(_PASSES):
            started = time.perf_counter()
            list(pool.map(np.sum, parts))
            times.append(time.perf_counter() - started)
    return 8 * size * count / min(times)


def _kilobytes(path: str, key: str) -> int | None:
    """A line `key 123 kB` of a file of the system, in bytes; None where there is none."""
    found = (line.split()[1] for line in _lines(path) if line.startswith(key))
    value = next(found, None)
    return None if value is None else int(value) * 1024


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
