"""More than a server can do: it says so at once, and what it has begun goes on."""

from __future__ import annotations

import threading
import time
from collections import Counter

import httpx
import numpy as np
import pytest

import gemmary
from tests.serve.server import running

from .wire import CHAT, connected, endless, idle, memory, pages, posted, request, resources, until

SAY = [{"role": "user", "content": "Say something."}]
# What goes wrong in a client's thread is a failure too.
pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")


def overload(seconds: float, clients: int) -> None:
    """`clients` that ask again and again, where two may run and two wait."""
    statuses: Counter[int] = Counter()
    refused: list[float] = []
    ready = threading.Barrier(clients)
    with gemmary.load(threads=1, streams=2, queue=2) as model, running(model) as url:
        asked = endless(model, max_tokens=20)

        def ask() -> None:
            ready.wait()
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                started = time.perf_counter()
                status, headers = posted(url, asked)
                statuses[status] += 1
                if status != 200:
                    refused.append(time.perf_counter() - started)
                    assert int(headers["retry-after"]) >= 1

        crowd = [threading.Thread(target=ask) for _ in range(clients)]
        for one in crowd:
            one.start()
        for one in crowd:
            one.join()
        until(lambda: idle(model))
        assert pages(model) == 0
    print(dict(statuses), f"refused in {np.median(refused):.3f} s, at most {max(refused):.3f} s")
    assert set(statuses) == {200, 429}
    assert statuses[200] >= 4


def test_ten_times_too_many() -> None:
    overload(0.5, 40)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_ten_times_too_many_for_minutes() -> None:
    overload(300, 40)


@pytest.mark.parametrize("stream", [False, True])
def test_memory_that_runs_out_is_told(
    url: str, bundled: gemmary.Model, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    """One request gets a 503 and may come again; the server goes on."""
    asked = {"messages": SAY, "max_tokens": 3, "seed": 1}
    runner = bundled._runner
    assert runner is not None

    def full(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(runner, "start", full)
        answer = httpx.post(f"{url}{CHAT}", json={**asked, "stream": stream}, timeout=60)
    assert '"code":"out_of_memory"' in answer.text.replace(" ", "")
    assert stream or (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert httpx.post(f"{url}{CHAT}", json=asked, timeout=60).status_code == 200
    until(lambda: idle(bundled))
    assert pages(bundled) == 0


def slow_readers(url: str, model: gemmary.Model, count: int) -> None:
    """Clients that take nothing: their answers are given up, what others get does not change."""
    body = endless(model, stream=True, logprobs=True, top_logprobs=20)
    before, held = resources(), memory()
    slow = [connected(url, receive=4096) for _ in range(count)]
    for connection in slow:
        connection.sendall(request(body))
    asked = endless(model, max_tokens=20)
    texts = {httpx.post(f"{url}{CHAT}", json=asked, timeout=120).json()["choices"][0]["message"]["content"]
             for _ in range(3)}  # fmt: skip
    assert len(texts) == 1
    until(lambda: idle(model))
    assert memory() - held < 128 << 20
    until(lambda: resources()[0] - before[0] <= count + 1)  # the server has closed its sides: ours are left
    for connection in slow:
        connection.close()
    until(lambda: resources()[0] <= before[0])
    assert pages(model) == 0


@pytest.mark.long
def test_slow_readers(bundled: gemmary.Model) -> None:
    with running(bundled, stall=1.0) as url:
        httpx.get(f"{url}/health")
        slow_readers(url, bundled, 16)


@pytest.mark.long
def test_half_sent_requests(bundled: gemmary.Model) -> None:
    """500 connections that say half of a body: others are answered, and these are closed in time."""
    with running(bundled, body_time=1.0) as url:
        httpx.get(f"{url}/health")
        before = resources()
        data = request({"messages": SAY, "max_tokens": 1})
        half = [connected(url) for _ in range(500)]
        for number, connection in enumerate(half):
            connection.sendall(data[: len(data) - 1 - number % 40])
        assert (
            httpx.post(f"{url}{CHAT}", json={"messages": SAY, "max_tokens": 2}, timeout=60).status_code == 200
        )
        for connection in half:
            connection.settimeout(60)
            assert connection.recv(4096).startswith(b"HTTP/1.1 408")
            connection.close()
        until(lambda: resources()[0] <= before[0])
        assert idle(bundled)
