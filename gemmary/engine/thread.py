"""The one thread that launches kernels.

Numba's thread layers do not survive concurrent launches, so every computation of a model is a job of its
engine thread, and the threads of several models take turns. Jobs are small (one step), first come first
served: streams take turns.
"""

from __future__ import annotations

import atexit
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from queue import SimpleQueue
from typing import Any, TypeVar

from ..errors import GemmaryError, MemoryBudgetError

T = TypeVar("T")
# SimpleQueue.put may be called at any moment, also by a generator that the garbage collector closes.
Jobs = SimpleQueue[tuple["Future[Any]", Callable[[], Any]] | None]

_POLL = 0.05  # seconds between two looks at a cancel flag
_LAUNCH = threading.Lock()  # held while a job runs
atexit.register(_LAUNCH.acquire, timeout=5)  # no kernel may run while the interpreter is taken apart


class Cancelled(Exception):
    """The request was cancelled, or its model closed. What was not committed is discarded."""


class EngineThread:
    """Runs jobs one after the other, in one thread of its own."""

    def __init__(self, start: Callable[[], Any]) -> None:
        """`start` runs first, in the thread; what it raises is raised here."""
        self._jobs: Jobs = SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=_work, args=(self._jobs,), name="gemmary-engine", daemon=True)
        self._thread.start()
        weakref.finalize(self, self._jobs.put, None)
        self.run(start)

    def run(
        self,
        job: Callable[[], T],
        cancel: threading.Event | None = None,
        watch: Callable[[], object] | None = None,
    ) -> T:
        """The job's result, or what it raised. `watch` is called now and then in the caller's thread.

        Cancelled when `cancel` is set before the job has begun, or the thread is closed; a running job looks
        at `cancel` itself. When the caller is interrupted, `cancel` is set and nobody waits: what the caller
        queues afterwards, to tidy up, runs after the job.
        """
        if cancel is not None and cancel.is_set():
            raise Cancelled
        future = self.later(job)
        try:
            while not _done(future):
                self._check_alive()
                if watch is not None:
                    watch()
                if cancel is not None and cancel.is_set() and future.cancel():
                    raise Cancelled
            return future.result()
        except CancelledError:
            raise Cancelled from None
        except BaseException:
            if cancel is not None:
                cancel.set()
            raise
        finally:
            del future  # an exception and its future must not keep each other alive

    def later(self, job: Callable[[], T]) -> Future[T]:
        """Queue a job and go on; after `close` it is cancelled."""
        future: Future[T] = Future()
        if self._closed:
            future.cancel()
        else:
            self._jobs.put((future, job))
        return future

    def close(self) -> None:
        """No more jobs; waits for the running one."""
        self._closed = True
        self._jobs.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _check_alive(self) -> None:
        if self._closed and not self._thread.is_alive():
            raise Cancelled
        if not self._thread.is_alive():
            raise GemmaryError(
                "a model does not survive os.fork: start processes with the spawn method, and load it there"
            )


def _done(future: Future[Any]) -> bool:
    """Whether the job is over, waiting a moment for it. CancelledError when it will never run."""
    try:
        future.exception(_POLL)
    except TimeoutError:
        return False
    return True


def _work(jobs: Jobs) -> None:
    """Do jobs until None comes; the ones behind it are cancelled."""
    while (item := jobs.get()) is not None:
        _do(*item)
        del item  # while waiting for the next job, hold on to nothing of this one
    while not jobs.empty():
        if (item := jobs.get()) is not None:
            item[0].cancel()


def _do(future: Future[Any], job: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        with _LAUNCH:
            result = job()
    except BaseException as fault:
        future.set_exception(typed(fault))
        del future  # see `run`
    else:
        future.set_result(result)


def typed(fault: BaseException) -> BaseException:
    """`fault` as users are told it."""
    if isinstance(fault, MemoryError) and not isinstance(fault, GemmaryError):
        return MemoryBudgetError(
            "this machine's memory is used up: close other programs, or load the model with a smaller context"
        )
    return fault
