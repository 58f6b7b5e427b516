"""Bodies: too large, too slow, too many; and a client that goes in the middle."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gemmary.serve.bodies import Bodies
from gemmary.serve.settings import Settings

SMALL = {"max_body": 2000, "body_memory": 3000, "body_time": 0.2}


class Asked:
    """A request in parts, with pauses; and what was answered."""

    def __init__(self, *parts: bytes | float, length: int | None = None, ends: bool = True) -> None:
        self._parts, self._ends = list(parts), ends
        said = (b"transfer-encoding", b"chunked") if length is None else (b"content-length", b"%d" % length)
        self.scope: dict[str, Any] = {
            "type": "http",
            "path": "/tokenize",
            "method": "POST",
            "headers": [said],
        }
        self.sent: list[dict[str, Any]] = []

    async def receive(self) -> dict[str, Any]:
        while self._parts and isinstance(self._parts[0], float):
            await asyncio.sleep(self._parts.pop(0))  # type: ignore[arg-type]
        if not self._parts:
            return {"type": "http.disconnect"}
        body = self._parts.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(self._parts) or not self._ends}

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int | None:
        return self.sent[0]["status"] if self.sent else None


class Echo:
    """Says how long the body is, after `seconds`."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds = seconds
        self.seen: list[bytes] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        assert message["more_body"] is False
        self.seen.append(message["body"])
        await asyncio.sleep(self._seconds)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def ask(bodies: Bodies, *requests: Asked) -> None:
    async def all_of_them() -> None:
        await asyncio.gather(*(bodies(r.scope, r.receive, r.send) for r in requests))

    asyncio.run(all_of_them())


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (Asked(b"x" * 2000, length=2000), 200),
        (Asked(*[b"x" * 100] * 20), 200),
        (Asked(b"", length=2001), 413),
        (Asked(length=1 << 70), 413),
        (Asked(*[b"x" * 100] * 21), 413),
        (Asked(b"x" * 2001), 413),
        (Asked(b"x", 5.0, b"y"), 408),
        (Asked(*[b"x", 0.06] * 20), 408),  # never silent for long, and never done
        (Asked(b"x", 0.05, b"y"), 200),
        (Asked(b"x", ends=False), None),  # the client goes: nobody is answered
    ],
    ids=[
        "announced",
        "chunked",
        "announced too much",
        "announced absurdly",
        "chunked too much",
        "said too much",
        "silent",
        "slow",
        "late",
        "gone",
    ],
)
def test_limits(request_: Asked, status: int | None) -> None:
    echo = Echo()
    bodies = Bodies(echo, Settings(**SMALL))
    ask(bodies, request_)
    assert request_.status == status
    assert len(echo.seen) == (status == 200)
    if status not in (200, None):
        assert (b"connection", b"close") in request_.sent[0]["headers"]
    assert bodies._held == 0


def test_parts_are_put_together() -> None:
    echo = Echo()
    ask(Bodies(echo, Settings(**SMALL)), Asked(b"ab", b"", b"cd"))
    assert echo.seen == [b"abcd"]


def test_memory_of_all_requests() -> None:
    bodies = Bodies(Echo(0.1), Settings(**SMALL))
    first, second, third = (Asked(b"x" * size, length=size) for size in (2000, 900, 500))
    ask(bodies, first, second, third)
    assert [r.status for r in (first, second, third)] == [200, 200, 503]
    again = Asked(b"x" * 2000, length=2000)
    ask(bodies, again)
    assert again.status == 200


def test_no_body_is_not_waited_for() -> None:
    request = Asked()
    request.scope["headers"] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})

    ask(Bodies(app, Settings(**SMALL)), request)
    assert request.status == 204
