"""SIGTERM and SIGINT: answers end, what is new is refused, the port is free again, the status is right."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

import gemmary
from tests.serve.whole import Process, free_port, served

CHAT = "/v1/chat/completions"
# Never ends by itself: the tokens that end a turn are forbidden, and the context is long enough for seconds.
LONG = {"messages": [{"role": "user", "content": "Hi"}], "stream": True, "temperature": 0,
        "logit_bias": {"1": -100, "106": -100}}  # fmt: skip


class Streams:
    """Clients that read streams to their end, each in a thread."""

    def __init__(self, url: str, count: int, **asked: Any) -> None:
        self.texts = [""] * count
        self._begun = [threading.Event() for _ in range(count)]
        self._threads = [threading.Thread(target=self._read, args=(url, i, asked)) for i in range(count)]
        for thread in self._threads:
            thread.start()
        for event in self._begun:
            assert event.wait(60)

    def _read(self, url: str, number: int, asked: dict[str, Any]) -> None:
        with httpx.stream("POST", url + CHAT, json={**LONG, **asked}, timeout=120) as answer:
            for text in answer.iter_text():
                self.texts[number] += text
                if '"content":' in text:
                    self._begun[number].set()

    def end(self) -> None:
        for thread in self._threads:
            thread.join(60)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.long
@pytest.mark.timeout(600)
def test_streams_are_told_that_they_end() -> None:
    """In a second each; what came before the signal is whole, and the port is free at once."""
    port = free_port()
    with Process("--port", str(port), "--drain", "0.5") as process:
        url = process.url()
        streams = Streams(url, 4, max_tokens=900)
        started = time.monotonic()
        process.signal(signal.SIGTERM)
        streams.end()
        assert process.end() == 0
        assert time.monotonic() - started < 30
        for text in streams.texts:
            ended = '"code":"ended"' in text or '"finish_reason":"length"' in text
            assert ended and text.endswith("data: [DONE]\n\n")
        socket.create_server(("127.0.0.1", port)).close()
        assert "stopped" in process.log and "Traceback" not in process.log


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_idle(number: int) -> None:
    for _ in range(5):
        with Process("--port", "0") as process:
            process.url()
            started = time.monotonic()
            process.signal(number)
            assert process.end() == 0
            assert time.monotonic() - started < 10


@pytest.mark.long
@pytest.mark.timeout(600)
def test_answers_may_end_and_new_ones_are_refused() -> None:
    with Process("--port", "0", "--drain", "60") as process:
        url = process.url()
        with httpx.Client(base_url=url) as kept:
            kept.get("/health")
            streams = Streams(url, 3, max_tokens=300)
            process.signal(signal.SIGTERM)
            process.said("stopping")
            with pytest.raises(httpx.TransportError):
                httpx.post(url + CHAT, json=LONG)
            streams.end()
        assert process.end() == 0
        assert all('"finish_reason":"length"' in text for text in streams.texts)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_twice_is_at_once() -> None:
    with Process("--port", "0", "--drain", "600") as process:
        url = process.url()
        streams = Streams(url, 4, max_tokens=1000)
        process.signal(signal.SIGTERM)
        process.said("stopping")
        started = time.monotonic()
        process.signal(signal.SIGTERM)
        assert process.end() in (0, 128 + signal.SIGTERM)  # 0 where all had ended before
        assert time.monotonic() - started < 20
        streams.end()
        assert all(text.endswith("data: [DONE]\n\n") for text in streams.texts)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_while_it_loads() -> None:
    with Process("--port", "0") as process:
        process.said("Loading|loaded|.")
        process.signal(signal.SIGTERM)
        assert process.end() in (0, -signal.SIGTERM)  # before the server is there the signal is the system's


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_full_queue() -> None:
    with Process("--port", "0", "--drain", "1", "--streams", "2", "--queue", "2") as process:
        url = process.url()
        statuses: list[int] = []

        def ask() -> None:
            try:
                statuses.append(
                    httpx.post(
                        url + CHAT, json={**LONG, "stream": False, "max_tokens": 900}, timeout=120
                    ).status_code
                )
            except httpx.TransportError:
                statuses.append(0)

        threads = [threading.Thread(target=ask) for _ in range(12)]
        for thread in threads:
            thread.start()
        process.said("status=429")
        process.signal(signal.SIGTERM)
        for thread in threads:
            thread.join(60)
        assert process.end() == 0
        assert set(statuses) <= {200, 429, 503} and 429 in statuses


@pytest.mark.long
@pytest.mark.timeout(600)
def test_killed_and_started_again_on_the_same_port() -> None:
    port = str(free_port())
    with Process("--port", port) as process:
        url = process.url()
        streams = threading.Thread(target=lambda: _ignore(url))
        streams.start()
        time.sleep(0.3)
        left = children(process.pid)
        process.signal(signal.SIGKILL)
        process.end()
        streams.join(60)
    with Process("--port", port) as process:
        assert httpx.get(f"{process.url()}/health").status_code == 200
        assert not [child for child in left if os.path.exists(f"/proc/{child}")], "orphans"


@pytest.mark.long
@pytest.mark.timeout(600)
def test_conversations_survive_a_killed_server(tmp_path: Path) -> None:
    """kill -9 while messages come in: each that was acknowledged is there in the next server, three times."""
    flags, kept = ("--port", "0", "--history", str(tmp_path / "history.db")), []
    with Process(*flags) as process:
        id = httpx.post(f"{process.url()}/api/conversations", json={}).json()["id"]
    for turn in range(3):
        with Process(*flags) as process, httpx.Client(base_url=process.url()) as http:
            killer = threading.Timer(0.05, process.signal, [signal.SIGKILL])
            with contextlib.suppress(httpx.TransportError):
                for number in range(100_000):
                    name = f"turn{turn}-{number:05}"
                    text = [{"type": "text", "text": f"{name} " * 50}]
                    body = {"parent": None, "role": "user", "content": text}
                    answer = http.put(f"/api/conversations/{id}/messages/{name}", json=body)
                    assert answer.status_code == 200, answer.text
                    kept.append(name)
                    if number == 9:
                        killer.start()
            killer.join()
    with Process(*flags) as process:
        found = httpx.get(f"{process.url()}/api/conversations/{id}").json()["messages"]
        assert "damaged" not in process.log
    assert len(kept) >= 30 and {message["id"] for message in found}.issuperset(kept)


def _ignore(url: str) -> None:
    with contextlib.suppress(httpx.TransportError):
        httpx.post(url + CHAT, json=LONG, timeout=60)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_port_that_is_taken() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        Process("--port", str(taken.getsockname()[1])) as process,
    ):
        assert process.end() == 1
        assert "take another with --port" in process.log and "Traceback" not in process.log


@pytest.mark.long
@pytest.mark.timeout(600)
def test_only_the_configured_address_is_listened_on() -> None:
    with Process("--port", "0") as process:
        port = int(process.url().rsplit(":", 1)[1])
        tables = [Path(f"/proc/{process.pid}/net/{name}").read_text() for name in ("tcp", "tcp6")]
        listening = [line.split() for table in tables for line in table.splitlines()]
        own = {os.readlink(f"/proc/{process.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{process.pid}/fd")}
        addresses = [words[1] for words in listening if words[3] == "0A" and f"socket:[{words[9]}]" in own]
        assert addresses == [f"0100007F:{port:04X}"]


def test_streams_of_a_server_that_stops(bundled: gemmary.Model) -> None:
    """The same as by SIGTERM, without a process: each stream ends with an event that says so."""
    with served(bundled, drain=0.3) as (url, server):
        streams = Streams(url, 3, max_tokens=900)
        server.handle_exit(signal.SIGTERM, None)
        streams.end()
        for text in streams.texts:
            assert '"code":"ended"' in text or '"finish_reason":"length"' in text
            assert text.endswith("data: [DONE]\n\n")
    scheduler = bundled.scheduler
    assert scheduler is not None and scheduler.running == scheduler.waiting == 0
