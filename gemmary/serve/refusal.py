"""A request that is not let in: its error, and a connection that ends in good order."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass

from . import failure
from .asgi import Receive, Scope, Send, has_body

Header = tuple[bytes, bytes]
LINGER = 1.0  # seconds in which what a refused client still sends is thrown away


@dataclass(frozen=True)
class Refusal:
    """Why a request is not let in. message: a fixed sentence; nothing that was sent is repeated."""

    status: int
    message: str
    code: str
    headers: tuple[Header, ...] = ()

    def body(self, path: str) -> bytes:
        """The error as the clients of `path` read it."""
        named = failure.INVALID if self.status < 500 else "server_error"
        kind = failure.Kind(self.status, failure.TYPES.get(self.status, named), self.code)
        return json.dumps(failure.body(path, self.message, kind)).encode()


class TurnedAwayError(Exception):
    """Raised where a request is not let in; `refuse` tells the client."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.code)
        self.refusal = refusal


def busy(status: int, message: str, code: str, seconds: int = 1) -> Refusal:
    """A refusal that may be otherwise in a while."""
    return Refusal(status, message, code, ((b"retry-after", str(seconds).encode()),))


async def refuse(refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the refusal.

    A body that nobody will read is thrown away for a while before the connection is closed: closing it at
    once would reset it, and the client might never see why.
    """
    body = refusal.body(scope["path"])
    sending = has_body(scope)
    await send({"type": "http.response.start", "status": refusal.status,
                "headers": _headers(body, refusal.headers, sending)})  # fmt: skip
    await send({"type": "http.response.body", "body": body, "more_body": sending})
    if sending:
        await _linger(receive)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _headers(body: bytes, more: Iterable[Header], close: bool) -> list[Header]:
    end = [(b"connection", b"close")] if close else []
    length = str(len(body)).encode()
    return [(b"content-type", b"application/json"), (b"content-length", length), *more, *end]


async def _linger(receive: Receive) -> None:
    try:
        async with asyncio.timeout(LINGER):
            message = await receive()
            while message["type"] == "http.request" and message.get("more_body"):
                message = await receive()
    except TimeoutError:
        pass
