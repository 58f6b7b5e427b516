"""The one thread that launches kernels.

Numba's thread layers do not survive concurrent launches, so every computation of a model is a job of its
engine thread. Jobs are small (one step), first come first served: streams take turns.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


class EngineThread:
    """Runs jobs one after the other, in one thread of its own."""

    def __init__(self, start: Callable[[], Any]) -> None:
        """`start` runs first, in the thread."""
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="gemmary-engine", initializer=start)

    def run(self, job: Callable[[], T], cancel: threading.Event | None = None) -> T:
        """The job's result. If the caller is interrupted meanwhile, `cancel` is set and the job awaited."""
        future: Future[T] = self._pool.submit(job)
        try:
            return future.result()
        except BaseException:
            if cancel is not None:
                cancel.set()
            if not future.cancel():
                future.exception()  # a job must not go on behind its caller's back
            raise

    def close(self) -> None:
        """No more jobs; waits for the running one."""
        self._pool.shutdown(wait=True, cancel_futures=True)
