"""Clients that are written by hand, so that they can misbehave."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from email.message import Message
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gemmary

CHAT = "/v1/chat/completions"


def request(body: dict[str, Any], path: str = CHAT) -> bytes:
    """A POST, as it goes over the wire."""
    data = json.dumps(body).encode()
    lines = (f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json",
             f"Content-Length: {len(data)}", "", "")  # fmt: skip
    return "\r\n".join(lines).encode() + data


def connected(url: str, receive: int = 0) -> socket.socket:
    """A connection; `receive`: bytes that the kernel takes for it (0: as it likes)."""
    place = urlsplit(url)
    connection = socket.socket()
    if receive:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    connection.connect((place.hostname, place.port))
    return connection


def posted(url: str, body: dict[str, Any]) -> tuple[int, Message]:
    """Status and headers of an answer, which is read. Lighter than a client of httpx by 30 ms."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=120)
    connection.request("POST", CHAT, json.dumps(body), {"content-type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status, answer.headers


def until(holds: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until it holds; others may use this machine too."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def idle(model: gemmary.Model) -> bool:
    """Whether nobody runs or waits."""
    scheduler = model.scheduler
    assert scheduler is not None
    return scheduler.running + scheduler.waiting == 0


def pages(model: gemmary.Model) -> int:
    """Bytes of pages that are held when nothing is remembered, behind all queued work."""
    runner = model._runner
    assert runner is not None

    def held() -> int:
        runner.snapshots.clear()
        return runner.pages.bytes_used + len(runner._active)

    return model._thread.run(held)


def resources() -> tuple[int, int]:
    """Descriptors and threads of this process."""
    return len(os.listdir("/proc/self/fd")), threading.active_count()


def memory() -> int:
    """Bytes that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def highest() -> int:
    """Bytes that this process has held at most since `forget_highest`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


def forget_highest() -> None:
    """What this process holds now counts as the most so far."""
    Path("/proc/self/clear_refs").write_text("5")


def endless(model: gemmary.Model, **more: Any) -> dict[str, Any]:
    """A request whose answer ends at the end of the context only."""
    bias = {str(token): -100 for token in model.tokenizer.stops}
    asked = [{"role": "user", "content": "Tell me a long story."}]
    return {"messages": asked, "logit_bias": bias, "seed": 1, **more}
