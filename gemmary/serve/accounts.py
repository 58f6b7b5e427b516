"""What each request uses: tokens and times, for the log and the metrics; and how all of them are ended."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from contextvars import ContextVar

from ..engine.passage import Listener, News
from ..engine.request import Run
from ..errors import GemmaryError
from .asgi import App, Message, Receive, Scope, Send
from .metrics import Metrics
from .presence import report
from .refusal import Refusal, refuse

log = logging.getLogger("gemmary.serve.access")
CURRENT: ContextVar[Account | None] = ContextVar("account", default=None)
PROBES = (("/health", 200), ("/metrics", 200))  # asked every few seconds: no news
FAULT = Refusal(500, "something went wrong in the server: its log says where", "internal")


class TooLongError(GemmaryError):
    """An answer took longer than it may."""

    def __init__(self) -> None:
        super().__init__("the answer took longer than this server allows: ask for fewer tokens")


class HungError(GemmaryError):
    """The engine does not answer."""

    def __init__(self) -> None:
        super().__init__("the engine does not answer: ask again in a while")


class Meter:
    """Measures one answer. `hear` is called in the engine thread, all else on the event loop."""

    def __init__(self, metrics: Metrics, model: str, started: float) -> None:
        self._metrics, self._model, self._started = metrics, model, started
        self._listener: Listener | None = None
        self._last = 0.0
        self.prompt_tokens = self.tokens = 0
        self.first: float | None = None  # seconds to the first token
        self.over = False

    def heard(self, listener: Listener) -> Listener:
        """`listener`, overheard."""
        self._listener = listener
        return self._hear

    def finish(self, reason: str, run: Run | None = None) -> None:
        """The answer is over; the first reason counts."""
        if self.over:
            return
        self.over = True
        seconds = time.perf_counter() - self._started
        self._metrics.ended(self._model, reason, seconds, self.prompt_tokens, self.tokens, run)

    def fail(self, fault: Exception) -> None:
        """End it with a fault, whatever the engine does."""
        if not self.over and self._listener is not None:
            self._listener(News(fault=fault))

    def _hear(self, news: News) -> None:
        if news.draws:
            self._drawn(news, time.perf_counter())
        if self._listener is not None:
            self._listener(news)

    def _drawn(self, news: News, now: float) -> None:
        if self.first is None:
            self.first, self.prompt_tokens = now - self._started, news.read
            self._metrics.first_token(self._model, self.first, news.read)
        else:
            self._metrics.next_tokens(self._model, (now - self._last) / len(news.draws), len(news.draws))
        self.tokens += len(news.draws)
        self._last = now


class Account:
    """One HTTP request. Whoever answers finds it with `current`."""

    def __init__(self, metrics: Metrics, answer_time: float) -> None:
        self.id = secrets.token_hex(8)
        self.model = ""
        self.meters: list[Meter] = []
        self._metrics, self._answer_time = metrics, answer_time
        self._started = time.perf_counter()
        self._leases: list[Callable[[], None]] = []
        self._deadline: asyncio.TimerHandle | None = None

    def meter(self) -> Meter:
        """Measure an answer from now on; it has `answer_time` seconds from the first one's beginning."""
        if self._deadline is None:
            loop = asyncio.get_running_loop()
            self._deadline = loop.call_later(self._answer_time, lambda: self.fail(TooLongError()))
        meter = Meter(self._metrics, self.model, self._started)
        self.meters.append(meter)
        return meter

    def hold(self, model: str, give_back: Callable[[], None]) -> None:
        """The request needs this model; `give_back` is called when it is over."""
        self.model = model
        self._leases.append(give_back)

    def fail(self, fault: Exception) -> None:
        """End its answers."""
        for meter in self.meters:
            meter.fail(fault)

    def close(self, scope: Scope, status: int) -> None:
        """The request is over: count it, and write a line."""
        if self._deadline is not None:
            self._deadline.cancel()
        for meter in self.meters:
            meter.finish("abort")
        for give_back in self._leases:
            give_back()
        path = getattr(scope.get("route"), "path", "-")  # what did not match may hold anything
        self._metrics.answered(path, status)
        if (path, status) not in PROBES:
            log.info("request", extra=self._line(scope, path, status))

    def _line(self, scope: Scope, path: str, status: int) -> dict[str, object]:
        client = scope.get("client")
        line: dict[str, object] = {
            "id": self.id, "client": client[0] if client else "-", "method": scope["method"], "path": path,
            "status": status, "seconds": round(time.perf_counter() - self._started, 4),
        }  # fmt: skip
        if owner := scope.get("state", {}).get("owner"):
            line["owner"] = owner
        if self.meters:
            firsts = [meter.first for meter in self.meters if meter.first is not None]
            line |= {"model": self.model, "prompt_tokens": self.meters[0].prompt_tokens,
                     "tokens": sum(meter.tokens for meter in self.meters)}  # fmt: skip
            line |= {"first_token": round(min(firsts), 4)} if firsts else {}
        return line


def current() -> Account | None:
    """The account of the request that is being answered; None outside of one."""
    return CURRENT.get()


class Accounts:
    """Keeps the account of every request, and sees to it that each gets an answer."""

    def __init__(self, app: App, metrics: Metrics, answer_time: float) -> None:
        self._app, self._metrics, self._answer_time = app, metrics, answer_time
        self._open: set[Account] = set()

    @property
    def answering(self) -> int:
        """Requests that are being answered."""
        return len(self._open)

    def fail(self, fault: Exception) -> None:
        """End all answers that are being made."""
        for account in list(self._open):
            account.fail(fault)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        account, status = Account(self._metrics, self._answer_time), 0
        token = CURRENT.set(account)
        self._open.add(account)

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                named = (b"x-request-id", account.id.encode())
                message = {**message, "headers": [*message.get("headers", ()), named]}
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception as fault:
            report(fault)
            if not status:
                await refuse(FAULT, scope, receive, sending)
        finally:
            self._open.discard(account)
            CURRENT.reset(token)
            account.close(scope, status or 499)
