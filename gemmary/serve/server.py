"""Runs the application: listens, loads, answers, and ends in good order.

The first SIGTERM or SIGINT: nothing new is taken, answers have `drain` seconds to end, then each is told that
it was ended. The second: they are told at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import signal
import socket
import threading
from collections.abc import Iterator
from types import FrameType

import uvicorn
from fastapi import FastAPI

from ..errors import GemmaryError
from .health import Health
from .models import Models
from .protocol import protocol
from .settings import Settings

log = logging.getLogger("gemmary.serve")
LAST_WORDS = 1.5  # seconds in which ended answers may be sent
FILES = 256  # descriptors for other things than connections


class PortError(GemmaryError):
    """The address cannot be listened on."""


class Server(uvicorn.Server):
    """One process, one port."""

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        super().__init__(
            uvicorn.Config(
                app, http=protocol(settings), ws="none", lifespan="off", log_config=None, access_log=False,
                server_header=False, proxy_headers=False, timeout_keep_alive=int(settings.idle),
                timeout_graceful_shutdown=int(settings.drain + 2 * LAST_WORDS) + 1,
            )
        )  # fmt: skip
        self._app, self._settings = app, settings
        self._models: Models = app.state.models
        self._health: Health = app.state.health
        self._hurry = asyncio.Event()
        self._signals: list[int] = []
        self._fault: Exception | None = None

    def answer(self, listening: socket.socket) -> int:
        """Serve until a signal comes; the exit status. Raises what kept the default model from loading."""
        self._health.starting = True
        _allow_files(self._settings.connections)
        self.run([listening])
        if self._fault is not None:
            raise self._fault
        return 128 + self._signals[1] if len(self._signals) > 1 else 0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen; load the default model meanwhile."""
        await super().startup(sockets)
        self._tasks = [
            asyncio.create_task(self._load(_url(sockets or []))),
            asyncio.create_task(self._health.watch(self._app.state.accounts)),
        ]

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let answers end."""
        self._health.stopping = True
        log.info("stopping", extra={"answers": self._app.state.accounts.answering})
        for task in self._tasks:
            task.cancel()
        ending = asyncio.create_task(self._end_answers())
        await super().shutdown(sockets)
        ending.cancel()
        log.info("stopped")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal."""
        self._signals.append(sig)
        self.should_exit = True
        if len(self._signals) > 1:
            self._hurry.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT are ours while we serve; a server that was asked to end has not failed."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        signals = (signal.SIGTERM, signal.SIGINT)
        before = {sig: signal.signal(sig, self.handle_exit) for sig in signals}
        try:
            yield
        finally:
            for sig, handler in before.items():
                signal.signal(sig, handler)

    async def _load(self, url: str) -> None:
        try:
            await self._models.ready(None)
        except Exception as fault:
            self._fault = fault.__cause__ if isinstance(fault.__cause__, Exception) else fault
            self.should_exit = True
            return
        self._health.starting = False
        log.info("ready on %s; Ctrl-C ends", url, extra=summary(self._models))

    async def _end_answers(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._hurry.wait(), self._settings.drain)
        self._models.cancel()
        await asyncio.sleep(LAST_WORDS)
        for connection in list(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()


def listen(settings: Settings) -> socket.socket:
    """A socket that waits for connections. PortError says why there is none."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as fault:
        why = fault.strerror or str(fault)
        raise PortError(
            f"{settings.host} port {settings.port} cannot be listened on ({why.lower()}): end what uses "
            "it, or take another with --port"
        ) from None


def summary(models: Models) -> dict[str, object]:
    """What the default model takes and gives, for the first line of the log."""
    state = models.states()[0]
    memory, mib = state.get("memory", {}), 1 << 20
    weights = memory.get("weights")
    return {
        "model": state["id"], "models": len(models.names), "context": state.get("context"),
        "streams": state.get("streams"), "weights_mib": None if weights is None else weights // mib,
        "pages_mib": memory.get("pages_total", 0) // mib,
    }  # fmt: skip


def _url(sockets: list[socket.socket]) -> str:
    host, port = sockets[0].getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _allow_files(connections: int) -> None:
    """Let this process have as many descriptors as connections need, as far as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + FILES
    if soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
