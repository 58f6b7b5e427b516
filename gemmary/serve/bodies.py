"""The body of a request, read whole before anybody works on it: bounded in size, time and memory."""

from __future__ import annotations

import asyncio

from .asgi import App, Message, Receive, Scope, Send, has_body, values
from .refusal import Refusal, TurnedAwayError, busy, refuse
from .settings import Settings

SLOWEST = 16 << 10  # bytes a second, once `body_time` is over

LARGE = Refusal(413, "the request is too large: gemmary serve --max-body says how large it may be", "body")
SLOW = Refusal(408, "the request came too slowly", "slow", ((b"x-should-retry", b"false"),))
FULL = busy(503, "the requests that are worked on take all memory for requests: ask again", "body_memory")


class Gone(Exception):
    """The client left while it sent its request."""


class Bodies:
    """Hands requests on when their body is here."""

    def __init__(self, app: App, settings: Settings) -> None:
        self._app = app
        self._most, self._memory, self._seconds = settings.max_body, settings.body_memory, settings.body_time
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not has_body(scope):
            await self._app(scope, receive, send)
            return
        body = bytearray()
        try:
            await self._read(scope, receive, body)
            await self._app(scope, _replayed(bytes(body), receive), send)
        except Gone:
            return
        except TurnedAwayError as fault:
            await refuse(fault.refusal, scope, receive, send)
        finally:
            self._held -= len(body)

    async def _read(self, scope: Scope, receive: Receive, body: bytearray) -> None:
        said = values(scope, b"content-length")
        if said and int(said[0]) > self._most:
            raise TurnedAwayError(LARGE)
        started, more = asyncio.get_running_loop().time(), True
        while more:
            until = started + self._seconds + len(body) / SLOWEST
            try:
                async with asyncio.timeout_at(until):
                    message = await receive()
            except TimeoutError:
                raise TurnedAwayError(SLOW) from None
            if message["type"] != "http.request":
                raise Gone
            self._take(message.get("body", b""), body)
            more = message.get("more_body", False)

    def _take(self, chunk: bytes, body: bytearray) -> None:
        body += chunk
        self._held += len(chunk)
        if len(body) > self._most:
            raise TurnedAwayError(LARGE)
        if self._held > self._memory:
            raise TurnedAwayError(FULL)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """`receive` that begins with the whole body."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receiving() -> Message:
        return messages.pop() if messages else await receive()

    return receiving
