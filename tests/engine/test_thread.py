"""One thread computes; whoever waits for it can always be got out."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import pytest

from gemmary.engine.thread import Cancelled, EngineThread
from gemmary.errors import GemmaryError, MemoryBudgetError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def thread() -> EngineThread:
    return EngineThread(lambda: None)


def test_jobs_run_in_order_in_one_other_thread(thread: EngineThread) -> None:
    seen: list[tuple[int, int]] = []

    def note(number: int) -> None:
        seen.append((number, threading.get_ident()))

    for number in range(50):
        thread.later(lambda number=number: note(number))  # type: ignore[misc]
    thread.run(lambda: None)
    assert [number for number, _ in seen] == list(range(50))
    assert len({where for _, where in seen} - {threading.get_ident()}) == 1


def test_results_and_faults_come_back(thread: EngineThread) -> None:
    assert thread.run(lambda: 5) == 5
    with pytest.raises(ZeroDivisionError):
        thread.run(lambda: 1 // 0)
    with pytest.raises(TimeoutError):  # the job's own, not the thread's
        thread.run(lambda: (_ for _ in ()).throw(TimeoutError))
    with pytest.raises(MemoryBudgetError, match="smaller context"):
        thread.run(lambda: (_ for _ in ()).throw(MemoryError))
    assert thread.run(lambda: 6) == 6


def test_a_start_that_fails_is_heard_of() -> None:
    with pytest.raises(ZeroDivisionError):
        EngineThread(lambda: 1 // 0)


def test_a_waiting_job_is_cancelled_at_once(thread: EngineThread) -> None:
    """Another stream's long step does not hold up whoever wants to leave."""
    running, release, cancel = threading.Event(), threading.Event(), threading.Event()
    thread.later(lambda: (running.set(), release.wait(10)))
    running.wait(5)
    threading.Timer(0.05, cancel.set).start()
    started = time.perf_counter()
    with pytest.raises(Cancelled):
        thread.run(lambda: pytest.fail("ran"), cancel)
    assert time.perf_counter() - started < 1
    release.set()
    with pytest.raises(Cancelled):
        thread.run(lambda: pytest.fail("ran"), cancel)


def test_interrupting_the_caller_sets_cancel_and_later_jobs_follow(thread: EngineThread) -> None:
    cancel = threading.Event()
    order: list[str] = []

    def job() -> None:
        cancel.wait(10)
        order.append("job")

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        thread.run(job, cancel, interrupt)
    thread.later(lambda: order.append("tidied up"))
    thread.run(lambda: None)
    assert order == ["job", "tidied up"]


def test_after_close_nothing_runs_and_nobody_hangs(thread: EngineThread) -> None:
    running, release = threading.Event(), threading.Event()
    thread.later(lambda: (running.set(), release.wait(10)))
    running.wait(5)
    waiting = threading.Thread(target=lambda: outcome.append(outcome_of(thread)))
    outcome: list[str] = []
    waiting.start()
    time.sleep(0.1)
    closing = threading.Thread(target=thread.close)
    closing.start()
    release.set()
    closing.join(5)
    waiting.join(5)
    assert outcome in (["cancelled"], ["ran"])
    assert outcome_of(thread) == "cancelled"
    thread.later(lambda: pytest.fail("ran"))
    thread.close()


def outcome_of(thread: EngineThread) -> str:
    try:
        thread.run(lambda: None)
    except Cancelled:
        return "cancelled"
    return "ran"


def test_a_thread_ends_with_its_owner_and_keeps_no_results_alive() -> None:
    thread = EngineThread(lambda: None)
    worker = thread._thread

    class Big:
        pass

    big = thread.run(Big)
    seen = weakref.ref(big)
    del big
    deadline = time.perf_counter() + 5
    while seen() is not None and time.perf_counter() < deadline:
        time.sleep(0.01)  # until the thread waits for its next job
        gc.collect()
    assert seen() is None
    del thread
    worker.join(5)
    assert not worker.is_alive()


def test_two_threads_never_compute_at_once() -> None:
    """Numba's thread layers end the process when two threads launch kernels."""
    inside, most = 0, 0

    def job() -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.002)
        inside -= 1

    threads = [EngineThread(lambda: None) for _ in range(3)]
    for _ in range(20):
        for each in threads:
            each.later(job)
    for each in threads:
        each.run(lambda: None)
    assert most == 1


def test_a_model_in_a_forked_process_says_so(thread: EngineThread) -> None:
    """Instead of waiting for ever for a thread that fork left behind."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            thread.run(lambda: None)
        except GemmaryError as fault:
            os.write(write, str(fault).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    assert b"spawn" in os.read(read, 1000)


@pytest.mark.parametrize("left", ["thread.later(lambda: time.sleep(0.3))", "None"])
def test_a_process_ends_by_itself(left: str) -> None:
    """Nobody has to close a model; a running job is waited for, as kernels need the interpreter."""
    script = (
        f"import time\nfrom gemmary.engine.thread import EngineThread\nthread = EngineThread(int)\n{left}"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, timeout=30, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
