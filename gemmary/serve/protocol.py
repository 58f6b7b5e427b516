"""HTTP/1.1 on a socket: uvicorn's protocol, with the time limits that it leaves to others.

A connection that does nothing may stay for `idle` seconds; one that has begun to send headers must end them
in `header_time`; bodies are bodies.py's. A client that takes no data for `stall` seconds, or is not there any
more, is noticed by the kernel.
"""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from .headers import with_security
from .settings import Settings

FULL = "this server has as many connections as it may: ask again in a while"
INVALID = "this is no HTTP request that can be read"
PROBES = 3  # of the kernel, without an answer, until a client counts as gone
LONGEST_PROBE, LONGEST_SILENCE = 32767, 2**31 - 1  # seconds, and milliseconds, that Linux takes
CLOSING = 2.0  # seconds in which a closed connection has to hand over its last data


class Protocol(H11Protocol):
    """One connection. Subclassed with `settings` by `protocol`."""

    settings: Settings

    def connection_made(self, transport: Any) -> None:
        """A client connects."""
        super().connection_made(transport)
        self._reading: asyncio.TimerHandle | None = None
        self._answered = 0
        _watch(transport.get_extra_info("socket"), self.settings.stall)
        if len(self.connections) > self.settings.connections:
            transport.write(_response(503, FULL, b"retry-after: 1\r\n"))
            self._close()
            return
        self._wait_idle()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone, or we have closed."""
        self._stop_reading()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()

    def data_received(self, data: bytes) -> None:
        """A part of a request."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        self._watch_headers()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        if not self.transport.is_closing():
            self._wait_idle()
            self._watch_headers()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            self.transport.write(_response(400, INVALID))
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._close()

    def timeout_keep_alive_handler(self) -> None:
        """Nothing came for long enough."""
        self._close()

    @property
    def _between(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def _wait_idle(self) -> None:
        self._unset_keepalive_if_required()
        if self._between:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.settings.idle, self.timeout_keep_alive_handler
            )

    def _watch_headers(self) -> None:
        """Headers that have begun, or a body that nobody waits for, must end in time."""
        if not self._between:
            self._stop_reading()
        elif self._reading is None and not self.transport.is_closing() and self._begun():
            self._unset_keepalive_if_required()
            self._reading = self.loop.call_later(self.settings.header_time, self._close)

    def _begun(self) -> bool:
        return self.conn.their_state is not h11.IDLE or bool(self.conn.trailing_data[0])

    def _stop_reading(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _close(self) -> None:
        """Close, and do not wait for long for a client that takes nothing."""
        self._stop_reading()
        if not self.transport.is_closing():
            self.transport.close()
            self.loop.call_later(CLOSING, self.transport.abort)


def protocol(settings: Settings) -> type[Protocol]:
    """The protocol of a server with these settings, for uvicorn's `http`."""
    return type("Protocol", (Protocol,), {"settings": settings})


def _watch(connection: socket.socket, stall: float) -> None:
    """Let the kernel end a connection whose other side takes nothing, or is not there any more.

    While we have nothing to send, as before a whole answer is there, only its probes find that out: the first
    after a quarter of `stall`, and three that get no answer take the rest.
    """
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if connection.family not in (socket.AF_INET, socket.AF_INET6):
        return
    quarter = min(max(1, round(stall / 4)), LONGEST_PROBE)
    limits = {
        "TCP_KEEPIDLE": quarter,
        "TCP_KEEPINTVL": quarter,
        "TCP_KEEPCNT": PROBES,
        "TCP_USER_TIMEOUT": min(int(stall * 1000), LONGEST_SILENCE),
    }
    for name, value in limits.items():
        if (option := getattr(socket, name, None)) is not None:  # not every system has all
            connection.setsockopt(socket.IPPROTO_TCP, option, value)


def _response(status: int, message: str, more: bytes = b"") -> bytes:
    """A whole response, for a connection that the application never hears of."""
    told = {"type": "server_error" if status >= 500 else "invalid_request_error", "message": message}
    body = json.dumps({"error": {**told, "param": None, "code": None}}).encode()
    said = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    lines = b"".join(b"%b: %b\r\n" % pair for pair in with_security(said))
    phrase = {400: b"Bad Request", 503: b"Service Unavailable"}[status]
    return b"HTTP/1.1 %d %b\r\n%b%bconnection: close\r\n\r\n%b" % (status, phrase, lines, more, body)
