"""Leaving is quick, wherever the engine is: measured inside a prefill that takes seconds."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable

import pytest

import gemmary
from tests.parity.sharp import text_ids

from .pool import settled

PROMPT = text_ids(4000, seed=1)
LATENCY = 0.1  # seconds; what is promised
ATTEMPTS = 4  # a loaded machine may be late; the engine may not be late every time


@pytest.fixture(scope="module", autouse=True)
def soon(slow: gemmary.Model) -> float:
    """Seconds of a third of the prefill. Afterwards kernels are compiled and the chunk has its size."""
    part = text_ids(400, seed=2)
    for _ in range(2):
        took = slow.generate(part, max_tokens=1).timings.prefill
        settled(slow)
    return took * len(PROMPT) / len(part) / 3


def quickest(attempt: Callable[[], float]) -> float:
    """The least of a few attempts, as soon as one keeps the promise."""
    times: list[float] = []
    while len(times) < ATTEMPTS and min(times, default=LATENCY) >= LATENCY:
        times.append(attempt())
    return min(times)


def test_closing_a_stream_from_another_thread(slow: gemmary.Model, soon: float) -> None:
    """As a server does when its client goes away. Both threads are free within the time."""

    def attempt() -> float:
        ended: list[tuple[str | None, float]] = []
        stream = slow.generate(PROMPT, stream=True, max_tokens=1)

        def consume() -> None:
            reason = [piece.finish_reason for piece in stream][-1]
            ended.append((reason, time.perf_counter()))

        consumer = threading.Thread(target=consume)
        consumer.start()
        time.sleep(soon)
        started = time.perf_counter()
        stream.close()
        closed = time.perf_counter()
        consumer.join()
        assert ended[0][0] == "cancelled"
        return max(closed, ended[0][1]) - started

    assert quickest(attempt) < LATENCY
    assert settled(slow)[1] == 0


def test_nobody_waits_for_somebody_elses_prefill(slow: gemmary.Model, soon: float) -> None:
    """A stream that is closed while another one is in the middle of a long step."""
    other = slow.generate(PROMPT, stream=True, max_tokens=1)
    busy = threading.Thread(target=lambda: list(other))

    def attempt() -> float:
        mine = slow.generate(PROMPT[:10], stream=True)
        next(mine)
        started = time.perf_counter()
        mine.close()
        return time.perf_counter() - started

    busy.start()
    time.sleep(soon / 2)
    assert quickest(attempt) < LATENCY
    assert busy.is_alive()
    other.close()
    busy.join()
    assert settled(slow)[1] == 0


def test_progress_notices_a_flag(slow: gemmary.Model, soon: float) -> None:
    """A blocking call, cancelled by a flag that its progress callback looks at."""

    def attempt() -> float:
        flagged: list[float] = []
        flag = threading.Timer(soon, lambda: flagged.append(time.perf_counter()))
        flag.start()
        reply = slow.generate(PROMPT, max_tokens=1, progress=lambda done, total: not flagged)
        ended = time.perf_counter()
        assert reply.finish_reason == "cancelled"
        assert reply.usage.completion_tokens == 0
        return ended - flagged[0]

    assert quickest(attempt) < 1.5 * LATENCY  # a glance every 50 ms comes on top
    assert settled(slow)[1] == 0


def test_control_c_in_a_blocking_call(slow: gemmary.Model, soon: float) -> None:
    """The signal comes while the main thread waits for the engine; afterwards the model answers as before."""
    expected = slow.generate(PROMPT[:50], temperature=0, max_tokens=3).ids
    sent: list[float] = []

    def interrupt(*_: object) -> None:
        sent.append(time.perf_counter())
        raise KeyboardInterrupt

    def attempt() -> float:
        sent.clear()
        signal.setitimer(signal.ITIMER_REAL, soon)
        with pytest.raises(KeyboardInterrupt):
            slow.generate(PROMPT, max_tokens=1)
        slow._thread.run(lambda: None)  # and the engine is free again, too
        return time.perf_counter() - sent[0]

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        assert quickest(attempt) < LATENCY
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert settled(slow)[1] == 0
    assert slow.generate(PROMPT[:50], temperature=0, max_tokens=3).ids == expected


def test_control_c_in_logits(slow: gemmary.Model, soon: float) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, soon)
        with pytest.raises(KeyboardInterrupt):
            slow.logits(PROMPT, rows=[-1])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert settled(slow)[1] == 0


def test_closing_the_model_ends_a_prefill(slow: gemmary.Model, soon: float) -> None:
    """Runs last: the model is gone afterwards. The stream ends properly, in another thread."""
    stream = slow.generate(PROMPT, stream=True, max_tokens=1)
    reasons: list[str | None] = []
    consumer = threading.Thread(target=lambda: reasons.extend(piece.finish_reason for piece in stream))
    consumer.start()
    time.sleep(soon)
    started = time.perf_counter()
    slow.close()
    consumer.join()
    assert time.perf_counter() - started < soon
    assert reasons == ["cancelled"]
