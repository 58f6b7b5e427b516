"""What the compiled kernels ask of the machine: threads, and a private folder for compiled code."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numba


def prepare(threads: int | None = None) -> int:
    """Point Numba at a per-user cache (mode 0700) and set the threads of the calling thread.

    Call it in the one thread that launches kernels: Numba's thread layers do not survive concurrent launches.
    """
    count = min(threads or usable_cores(), numba.config.NUMBA_NUM_THREADS)
    numba.set_num_threads(count)
    return count


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def code_cache() -> Path:
    """Folder for compiled kernels, readable by this user only: code in it is executed."""
    root = os.environ.get("XDG_CACHE_HOME")
    folder = (Path(root) if root else Path.home() / ".cache") / "gemmary" / "kernels"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
    except OSError:
        return Path(tempfile.mkdtemp(prefix="gemmary-kernels-"))
    return folder


if not os.environ.get("NUMBA_CACHE_DIR"):
    numba.config.CACHE_DIR = str(code_cache())
