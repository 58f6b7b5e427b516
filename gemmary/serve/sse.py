"""Server-sent events: a response that is written while it is made, and ends when the client goes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from typing import Any

from fastapi import Response

from .presence import Receive, end, gone

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

DONE = b"data: [DONE]\n\n"
STILL_HERE = b": still here\n\n"
HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}  # no proxy may hold events back


def event(data: Any, name: str | None = None) -> bytes:
    """One event with JSON in it."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return f"event: {name}\ndata: {text}\n\n".encode() if name else f"data: {text}\n\n".encode()


class EventStream(Response):
    """Sends `events` as they come, and a comment where none came for `keep_alive` seconds.

    A client that goes, or takes no data for `stall` seconds, ends it: `events` is closed, and `ended` called.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncGenerator[bytes, None],
        ended: Callable[[], object],
        keep_alive: float,
        stall: float,
    ) -> None:
        """`ended`: called at the end, however it comes."""
        super().__init__(headers=HEADERS)
        del self.headers["content-length"]
        self._events, self._ended, self._keep_alive, self._stall = events, ended, keep_alive, stall

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        writing, watching = asyncio.ensure_future(self._write(send)), asyncio.ensure_future(gone(receive))
        try:
            await asyncio.wait({writing, watching}, return_when=asyncio.FIRST_COMPLETED)
            if writing.done():
                writing.result()
        except (TimeoutError, OSError):
            pass  # the client takes nothing, or has gone
        finally:
            self._ended()  # closing a generator that never began runs no `finally` in it
            await end(writing)
            await end(watching)
            await self._events.aclose()

    async def _write(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        following = asyncio.ensure_future(anext(self._events, None))
        try:
            while True:
                await asyncio.wait({following}, timeout=self._keep_alive)
                data = following.result() if following.done() else STILL_HERE
                body = {"type": "http.response.body", "body": data or b"", "more_body": data is not None}
                async with asyncio.timeout(self._stall):
                    await send(body)
                if data is None:
                    return
                if following.done() and data is not STILL_HERE:
                    following = asyncio.ensure_future(anext(self._events, None))
        finally:
            await end(following)
