"""A request as a value, and its answer by an ASGI application, a piece at a time: HTTP without a socket.

Thus a request can be handed to an engine in another process, on another machine.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from .presence import end

Headers = list[tuple[bytes, bytes]]
Message = MutableMapping[str, Any]
Application = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Any]
WAITING = 8  # pieces that may wait for a reader before the application has to


@dataclass(frozen=True)
class Asked:
    """A request: `path` without escapes; `query` as it was sent, without the question mark."""

    method: str
    path: str
    query: bytes
    headers: Headers
    body: bytes
    client: tuple[str, int] | None = None


@dataclass(frozen=True)
class Head:
    """What an answer begins with."""

    status: int
    headers: Headers


async def answer(app: Application, asked: Asked) -> AsyncGenerator[Head | bytes, None]:
    """The head of the answer, then its body as it comes.

    Closing it tells the application that the client has gone. Raises what the application raises.
    """
    pieces: asyncio.Queue[Head | bytes] = asyncio.Queue(WAITING)
    gone = asyncio.Event()
    work = asyncio.ensure_future(_run(app, asked, pieces, gone))
    try:
        while True:
            following = asyncio.ensure_future(pieces.get())
            await asyncio.wait({work, following}, return_when=asyncio.FIRST_COMPLETED)
            if not following.done() and pieces.empty():
                await end(following)
                work.result()
                return
            yield await following
    finally:
        gone.set()
        await asyncio.wait({work}, timeout=1)  # a server's own way to end comes first
        await end(work)


async def _run(
    app: Application, asked: Asked, pieces: asyncio.Queue[Head | bytes], gone: asyncio.Event
) -> None:
    sent = False

    async def receive() -> Message:
        nonlocal sent
        if not sent:
            sent = True
            return {"type": "http.request", "body": asked.body, "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if gone.is_set():
            return
        if message["type"] == "http.response.start":
            await pieces.put(Head(message["status"], list(message.get("headers", ()))))
        elif message.get("body"):
            await pieces.put(message["body"])

    await app(_scope(asked), receive, send)


def _scope(asked: Asked) -> Message:
    return {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1",
        "method": asked.method, "scheme": "http", "path": asked.path,
        "raw_path": quote(asked.path).encode(), "query_string": asked.query, "root_path": "",
        "headers": asked.headers, "client": asked.client, "server": None, "state": {},
    }  # fmt: skip
