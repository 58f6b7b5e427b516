"""Answers on the event loop: the engine's news become pieces; whoever stops listening cancels."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from typing import Self

from ..engine.model import Model, Words
from ..engine.options import Order
from ..engine.passage import Listener, News
from ..engine.reply import Piece
from ..engine.transcript import Transcript
from ..errors import GemmaryError
from .accounts import Meter, current

INT64 = 1 << 63


class EndedError(GemmaryError):
    """The model was unloaded, or the server stops, while the answer was made."""

    def __init__(self) -> None:
        super().__init__("the answer was ended by the server, which unloads the model or stops: ask again")


@dataclass(frozen=True)
class Caller:
    """Who asks. `owner`: callers take turns. `key`: what is remembered is shared under one key only."""

    owner: str = ""
    key: bytes = b""


@dataclass(frozen=True)
class Reading:
    """How much of a prompt is read, and how much of it was remembered."""

    read: int
    total: int
    cached: int


def orders(order: Order, n: int) -> list[Order]:
    """`order` n times, number i with the seed plus i."""
    sampling = order.sampling
    seeds = ((sampling.seed + i + INT64) % (2 * INT64) - INT64 for i in range(n))
    return [replace(order, sampling=replace(sampling, seed=seed)) for seed in seeds]


class Answering:
    """Answers while they are made: to each prompt one for each order, in this order; `begin` makes it.

    A prompt is read once: its further answers begin when the first one has read it, from what is remembered.
    """

    def __init__(
        self, model: Model, prompts: Sequence[Words], orders: Sequence[Order], caller: Caller
    ) -> None:
        self._model, self._prompts, self._orders, self._caller = model, prompts, orders, caller
        self._news: asyncio.Queue[tuple[int, News]] = asyncio.Queue()
        self._transcripts: dict[int, Transcript] = {}
        self._meters: dict[int, Meter] = {}
        self._left = set(range(len(prompts) * len(orders)))

    @classmethod
    async def begin(
        cls, model: Model, prompts: Sequence[Words], orders: Sequence[Order], caller: Caller
    ) -> Self:
        """Put the first answer to each prompt in the queue. Errors are those of `Model.open`."""
        answering = cls(model, prompts, orders, caller)
        try:
            for prompt in range(len(prompts)):
                await answering._open(prompt * len(orders))
        except BaseException:
            answering.cancel()
            raise
        return answering

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the first prompt."""
        return len(self._transcripts[0].request.ids)

    def stopped_by(self, index: int) -> str | None:
        """The stop string that ended an answer."""
        return self._transcripts[index].stopped_by

    def cancel(self) -> None:
        """End all of them within a step."""
        for transcript in self._transcripts.values():
            transcript.request.cancel.set()

    async def events(self) -> AsyncGenerator[tuple[int, Piece | Reading], None]:
        """Number of an answer, and a piece of it, the last with a finish_reason; how prompts are read.

        Raises what went wrong. Closing it ends all answers.
        """
        try:
            while self._left:
                index, news = await self._news.get()
                for told in self._take(index, news):
                    yield index, told
                await self._follow(index)
        finally:
            self.cancel()

    def _take(self, index: int, news: News) -> list[Piece | Reading]:
        """What `news` tells listeners."""
        if index not in self._left:
            return []
        if news.fault is not None:
            raise news.fault
        transcript = self._transcripts[index]
        if not news.draws and news.end is None:
            return [Reading(news.read, len(transcript.request.ids), transcript.run.cached)]
        pieces = [piece for piece in self._push(transcript, news) if piece is not None]
        if transcript.over or news.end is not None:
            if news.end == "cancelled" and not transcript.over:
                raise EndedError
            transcript.request.cancel.set()
            self._left.remove(index)
            pieces.append(last := transcript.finish())
            if index in self._meters:
                self._meters[index].finish(last.finish_reason or "stop", transcript.run)
        return list(pieces)

    def _push(self, transcript: Transcript, news: News) -> list[Piece | None]:
        transcript.run.end = news.end
        pieces = []
        for draw in news.draws:
            pieces.append(transcript.push(draw))
            if transcript.over:
                break
        return pieces

    async def _follow(self, index: int) -> None:
        """Begin the further answers to a prompt that has been read."""
        first, each = index - index % len(self._orders), len(self._orders)
        transcript = self._transcripts[first]
        read = transcript.run.prefill_seconds > 0 or first not in self._left
        if each > 1 and first + 1 not in self._transcripts and read:
            for number in range(first + 1, first + each):
                await self._open(number)

    async def _open(self, index: int) -> None:
        loop, news, account = asyncio.get_running_loop(), self._news, current()

        def listener(told: News) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(news.put_nowait, (index, told))

        prompt, order = divmod(index, len(self._orders))
        heard: Listener = listener
        if account is not None:
            self._meters[index] = meter = account.meter()
            heard = meter.heard(listener)
        request = self._prompts[prompt], heard, self._orders[order], self._caller.owner, self._caller.key
        opening = asyncio.ensure_future(asyncio.to_thread(self._model.open, *request, order > 0))
        try:
            self._transcripts[index] = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_drop)  # nobody will listen to what the thread is about to open
            raise


def _drop(opening: asyncio.Future[Transcript]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().request.cancel.set()
