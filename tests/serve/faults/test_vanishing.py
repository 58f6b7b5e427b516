"""Clients that connect, stream and vanish: nothing stays of them, and those who stay read their own texts."""

from __future__ import annotations

import contextlib
import json
import logging
import random
import threading
import time
from collections import Counter
from typing import Any

import pytest

import gemmary
from tests.serve.server import running

from .wire import CHAT, connected, idle, memory, pages, request, resources, until

# What goes wrong in a client's thread is a failure too.
pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
CANARY = "Kanarienvogel"
WORDS = "a dog, the sea, an old road, a tar archive, seven pictures, the moon, a list of files".split(", ")


def body(number: int) -> dict[str, Any]:
    """A request of one's own: another length, draw and answer."""
    rng = random.Random(number)
    text = f"{CANARY}. Tell me of {' and '.join(rng.choice(WORDS) for _ in range(rng.choice((1, 3, 30))))}."
    asked: dict[str, Any] = {
        "messages": [{"role": "user", "content": text}],
        "seed": number,
        "max_tokens": rng.choice((3, 20, 60)),
        "stream": rng.random() < 0.8,
    }
    if rng.random() < 0.15:
        asked["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "w", "schema": {"type": "string", "pattern": "^[a-z]{3,30}$"}},
        }
    if rng.random() < 0.1:
        asked["n"] = 3
    return asked


def answer(raw: bytes) -> dict[int, str] | None:
    """The texts of a whole answer, by choice; None where it is an error or was cut."""
    head, _, rest = raw.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        return None
    texts: Counter[int] | dict[int, str] = {}
    if b"text/event-stream" not in head:
        return {choice["index"]: choice["message"]["content"] for choice in json.loads(rest)["choices"]}
    done = False
    for line in rest.split(b"\n"):
        done |= line.startswith(b"data: [DONE]")
        if line.startswith(b"data: {"):
            chunk = json.loads(line[6:])
            if "error" in chunk:
                return None
            for choice in chunk["choices"]:
                texts[choice["index"]] = texts.get(choice["index"], "") + (
                    choice["delta"].get("content") or ""
                )
    return dict(texts) if done else None


def client(
    url: str, seconds: float, number: int, seen: dict[int, dict[int, str]], statuses: Counter[str]
) -> None:
    rng, until_ = random.Random(number), time.monotonic() + seconds
    while time.monotonic() < until_:
        asked = rng.randrange(300)
        raw = bytearray()
        with contextlib.suppress(OSError), connected(url) as connection:
            connection.settimeout(120)
            data = request(body(asked), CHAT).replace(b"Host:", b"Connection: close\r\nHost:", 1)
            if rng.random() < 0.1:  # a part of a request only
                connection.sendall(data[: rng.randrange(len(data))])
                statuses["cut"] += 1
                continue
            connection.sendall(data)
            patience = rng.choice((0, 1, 400, 3000)) if rng.random() < 0.5 else 1 << 30
            while len(raw) < patience and (chunk := connection.recv(4096)):
                raw += chunk
        if patience < 1 << 30:
            statuses["vanished"] += 1
            continue
        statuses[raw[9:12].decode()] += 1
        texts = answer(_unchunked(bytes(raw)))
        if texts is not None:
            seen[asked] = texts
        elif raw[9:12] == b"200":
            statuses["error in a stream"] += 1


def _unchunked(raw: bytes) -> bytes:
    head, _, rest = raw.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" not in head.lower():
        return raw
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        count = int(size or b"0", 16)
        body, rest = body + rest[:count], rest[count + 2 :]
    return head + b"\r\n\r\n" + body


def storm(model: gemmary.Model, clients: int, seconds: float, caplog: pytest.LogCaptureFixture) -> None:
    seen: dict[int, dict[int, str]] = {}
    statuses: Counter[str] = Counter()
    with caplog.at_level(logging.DEBUG, "gemmary"), running(model) as url:
        client(url, 0.3, 10**6, {}, Counter())  # what is opened once
        until(lambda: idle(model))
        before = resources()
        crowd = [
            threading.Thread(target=client, args=(url, seconds, n, seen, statuses)) for n in range(clients)
        ]
        for one in crowd:
            one.start()
        time.sleep(seconds / 2)
        grown = memory()
        for one in crowd:
            one.join()
        until(lambda: idle(model), 10)
        assert pages(model) == 0, "pages were lost"
        until(lambda: resources()[0] <= before[0], 30)
        # Threads that wait for work stay; there is a fixed number of them at most.
        until(lambda: threading.active_count() <= before[1] + 33, 10)
        print(
            f"{sum(statuses.values())} requests: {dict(statuses)}, {len(seen)} texts kept, "
            f"descriptors {before[0]} -> {resources()[0]}, "
            f"memory in the second half {(memory() - grown) >> 20:+} MiB"
        )
    assert set(statuses) <= {"200", "429", "503", "vanished", "cut"}, statuses
    assert statuses["200"] and statuses["vanished"]
    for number, texts in seen.items():
        asked = body(number)
        schema = asked.get("response_format", {}).get("json_schema", {}).get("schema")
        for index, text in texts.items():
            alone = model.chat(
                asked["messages"], seed=number + index, max_tokens=asked["max_tokens"], schema=schema
            )
            assert text == alone.text, f"request {number} got another text"
    assert CANARY not in caplog.text, "a prompt is in the log"


def test_twenty_for_some_seconds(bundled: gemmary.Model, caplog: pytest.LogCaptureFixture) -> None:
    storm(bundled, 20, 0.7, caplog)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_two_hundred_for_five_minutes(caplog: pytest.LogCaptureFixture) -> None:
    with gemmary.load(threads=1, streams=8, queue=64) as model:
        storm(model, 200, 300, caplog)
