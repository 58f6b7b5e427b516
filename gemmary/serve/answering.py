"""An answer on the event loop: the engine's news become pieces; whoever stops listening cancels."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from ..engine.model import Model, Words
from ..engine.options import Order
from ..engine.reply import Piece, Reply
from ..engine.scheduler import News
from ..engine.transcript import Transcript


@dataclass(frozen=True)
class Reading:
    """How much of the prompt is read."""

    read: int
    total: int


class Answering:
    """One answer while it is made; `begin` makes it. Ended early by `cancel`, or by closing `events`."""

    def __init__(self, transcript: Transcript, news: asyncio.Queue[News]) -> None:
        self.transcript = transcript
        self._news = news
        self._pieces: list[Piece] = []

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt."""
        return len(self.transcript.request.ids)

    def cancel(self) -> None:
        """End it within a step."""
        self.transcript.request.cancel.set()

    async def events(self) -> AsyncGenerator[Piece | Reading, None]:
        """How the prompt is read, then the pieces; the last has a finish_reason. Raises what went wrong."""
        try:
            while True:
                news = await self._news.get()
                if news.fault is not None:
                    raise news.fault
                if not news.draws and news.end is None:
                    yield Reading(news.read, self.prompt_tokens)
                for piece in self._take(news):
                    self._pieces.append(piece)
                    yield piece
                    if piece.finish_reason is not None:
                        return
        finally:
            self.cancel()

    async def reply(self) -> Reply:
        """The whole answer."""
        async for _ in self.events():
            pass
        return self.transcript.reply(self._pieces)

    def _take(self, news: News) -> list[Piece]:
        transcript, pieces = self.transcript, []
        if news.end is not None:
            transcript.run.end = news.end
        for draw in news.draws:
            if (piece := transcript.push(draw)) is not None:
                pieces.append(piece)
            if transcript.over:
                break
        if transcript.over or news.end is not None:
            pieces.append(transcript.finish())
        return pieces


async def begin(model: Model, prompt: Words, order: Order, owner: str = "", key: bytes = b"") -> Answering:
    """Put an answer in the queue; see `Model.open` for the parameters and errors."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[News] = asyncio.Queue()

    def listener(news: News) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(queue.put_nowait, news)

    opening = asyncio.ensure_future(asyncio.to_thread(model.open, prompt, listener, order, owner, key))
    try:
        return Answering(await asyncio.shield(opening), queue)
    except asyncio.CancelledError:
        opening.add_done_callback(_drop)  # nobody will listen to what the thread is about to open
        raise


def _drop(opening: asyncio.Future[Transcript]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().request.cancel.set()
