"""What the compiled kernels ask of the machine: threads."""

from __future__ import annotations

import os

import numba

# Threads that wait for work sleep instead of spinning. On a busy machine spinning made a token take up to ten
# times as long; on an idle one, sleeping costs 8 to 20 % (docs/LOG.md). Read once, when OpenMP starts.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# Multiplications of an operation: below this, waking the other threads costs more than it saves.
WORTH_A_LAUNCH = 1 << 18


def prepare(threads: int | None = None) -> int:
    """Set the threads that kernels launched by the calling thread use; how many they are.

    Call it in the one thread that launches kernels: Numba's thread layers do not survive concurrent launches.
    """
    count = min(threads or usable_cores(), numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
    numba.set_num_threads(count)
    return count


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def path() -> str:
    """Which kernels run here: the instruction set that they are written for."""
    return "generic"
