"""Continuous batching: every step serves all running texts, and reads each weight once for them.

A step takes the last token of every text that is being written and a part of the prompts that are being
read, packed one behind the other. Texts join and leave between steps. A row's bits do not depend on its
company (docs/ops.md), and a draw depends on its row, the seed and the position alone: so each text is the one
that it would be alone, whoever came, left, or gave way. A text that gave way is read again later.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

from ..errors import MemoryBudgetError
from ..model.pages import Pages, Sequence
from ..ops.contract import TopK
from .line import Line
from .passage import Listener, News, Passage, went_wrong
from .request import Request, Run
from .runner import MAX_CHUNK, Runner
from .sampling import Draw, NotFiniteError
from .thread import Cancelled, EngineThread

_READ_SECONDS = 0.15  # of a step that others wait in for their next token, spent on prompts
_ALONE_SECONDS = 0.5  # of a step that only reads: nobody is cancelled within a step
_FEWEST = 8  # tokens of a prompt in a step: below, unpacking the weights costs more than using them
_FEW = 1024  # candidates that the head finds quickly
_POLL = 0.05  # seconds between two looks of who waits for draws


class Scheduler:
    """Runs up to `streams` texts together; up to `queue` more wait."""

    def __init__(self, runner: Runner, thread: EngineThread, streams: int, queue: int) -> None:
        self.steps = self.gave_way = self.tokens_read = self.tokens_written = 0
        self.step_seconds = 0.0
        self._runner, self._thread, self._streams = runner, thread, streams
        self._line: Line[Passage] = Line(queue)
        self._running: list[Passage] = []  # oldest first; the engine thread's
        self._lock = threading.Lock()
        self._awake = False
        self._beat = 0.0  # when something happened last
        self._crowded = False  # somebody gave way: nobody joins before somebody has left
        self._looked = False  # a part of a picture was encoded before this step
        self._speed = 0.0  # prompt tokens a second

    @property
    def running(self) -> int:
        """Texts that are being read or written."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Texts that wait."""
        return len(self._line)

    @property
    def streams(self) -> int:
        """Texts that may run together."""
        return self._streams

    @property
    def silent(self) -> float:
        """Seconds in which nothing happened though there is work to do."""
        return time.perf_counter() - self._beat if self._awake else 0.0

    @property
    def pages(self) -> Pages:
        """Where keys and values are."""
        return self._runner.pages

    def open(
        self, request: Request, run: Run, listener: Listener, owner: str = "", promised: bool = False
    ) -> None:
        """Have a text continued; owners take turns. From any thread.

        QueueFullError where too many wait, unless it was promised. Setting `request.cancel` ends it within a
        step.
        """
        self._line.join(Passage(request, run, listener, owner), owner, self._free(), promised)
        self._wake()

    def forget(self) -> None:
        """Forget what was read, and what was counted and measured, as if nothing had run yet.

        For a model that nobody else asks. Does nothing where the model is closed.
        """
        with suppress(Cancelled):
            self._thread.run(self._forget)

    def _forget(self) -> None:
        snapshots = self._runner.snapshots
        snapshots.clear()
        snapshots.hits = snapshots.misses = 0
        self.steps = self.gave_way = self.tokens_read = self.tokens_written = 0
        self.step_seconds = self._speed = 0.0  # a step in which kernels are compiled says nothing of the next

    def check_queue(self) -> None:
        """QueueFullError where `open` would raise it now: before a prompt is made for nothing."""
        self._line.check(self._free())

    def draws(self, request: Request, run: Run, owner: str = "") -> Generator[Draw, None, None]:
        """The same, draw by draw; closing the iterator cancels."""
        news: SimpleQueue[News] = SimpleQueue()
        self.open(request, run, news.put, owner)
        read = 0
        try:
            while run.end is None:
                try:
                    told = news.get(timeout=_POLL)
                except Empty:
                    told = News(read=read)
                read = max(read, told.read)
                if request.progress is not None and request.progress(read, len(request.ids)) is False:
                    request.cancel.set()
                if told.fault is not None:
                    raise told.fault
                for number, draw in enumerate(told.draws, 1):
                    if number == len(told.draws):
                        run.end = told.end
                    yield draw
                run.end = told.end
        finally:
            request.cancel.set()
            run.end = run.end or "cancelled"

    def _free(self) -> int:
        """Texts more that could run now."""
        return max(0, self._streams - len(self._running))

    def _wake(self) -> None:
        with self._lock:
            if self._awake:
                return
            self._beat = time.perf_counter()
            self._awake = True
        self._again()

    def _again(self) -> None:
        self._thread.later(self._tick).add_done_callback(self._ticked)

    def _ticked(self, future: Future[None]) -> None:
        """Behind every step. A model that was closed, or a fault in here, ends every text."""
        fault = None if future.cancelled() else future.exception()
        if not future.cancelled() and fault is None:
            return
        gone = [*self._running, *self._line.all()]
        self._running, self._crowded = [], False
        self._line.leave(gone)
        for passage in gone:
            if fault is not None:  # else the pages went with the model
                self._let_go(passage)
            passage.tell(News(end="cancelled") if fault is None else went_wrong(fault))
        with self._lock:
            self._awake = len(self._line) > 0  # who joined meanwhile
        if self._awake:
            self._again()

    def _tick(self) -> None:
        """One step, and a date for the next."""
        self._drop_cancelled()
        self._admit()
        parts = self._compose()
        if parts:
            self._step(parts)
        self._beat = time.perf_counter()
        with self._lock:
            self._awake = bool(self._running or len(self._line))
        if self._awake:
            self._again()

    def _drop_cancelled(self) -> None:
        gone = [p for p in self._line.all() if p.request.cancel.is_set()]
        self._line.leave(gone)
        for passage in [*gone, *(p for p in self._running if p.request.cancel.is_set())]:
            self._finish(passage, News(end="cancelled"))

    def _admit(self) -> None:
        for passage in [p for p in self._running if not self._runner.holds(p.sequence)]:
            self._give_way(passage)  # somebody outside took its pages
        while len(self._running) < self._streams and not (self._crowded and self._running):
            first = self._line.next()
            if first is None:
                return
            first.run.queued_seconds += first.lap()
            self._running.append(first)
            try:
                cached = self._runner.start(first.ids, first.sequence, first.request.key)
            except BaseException as fault:
                self._finish(first, went_wrong(fault), keep=False)
                continue
            if len(first.ids) == len(first.request.ids):
                first.run.cached = cached

    def _compose(self) -> list[tuple[Passage, list[int]]]:
        """Whose tokens the step appends: of everybody who writes the last one, and parts of prompts.

        One layer of one picture is encoded at most, however many wait for theirs: the others wait for it too.
        """
        self._looked = False
        parts: list[tuple[Passage, list[int]]] = []
        budget = self._budget()
        for passage in list(self._running):
            part = self._part(passage, budget)
            if not part or passage not in self._running:
                continue
            if self._has_room(passage, len(part)):
                parts.append((passage, part))
                budget -= 0 if passage.writing else len(part)
        return [(passage, part) for passage, part in parts if passage in self._running]

    def _part(self, passage: Passage, budget: int) -> list[int]:
        if passage.writing:
            return passage.ids[-1:]
        if budget <= 0:
            return []
        runner, start = self._runner, passage.sequence.length
        part = list(runner.part(passage.ids, start, budget, passage.request.marks))
        try:
            ready = runner.ready(part, passage.request.pixels, look=not self._looked)
        except BaseException as fault:
            self._finish(passage, went_wrong(fault))
            return []
        if ready:
            passage.run.unseen = 0.0
            return part
        self._looked = True  # for this text, or for an older one
        passage.run.unseen = runner.unseen(passage.ids[start:])
        return []

    def _budget(self) -> int:
        """Tokens of prompts in the next step."""
        writing = any(passage.writing for passage in self._running)
        seconds = _READ_SECONDS if writing else _ALONE_SECONDS
        return int(np.clip(self._speed * seconds, _FEWEST, MAX_CHUNK))

    def _has_room(self, passage: Passage, count: int) -> bool:
        """Make room; the newest text gives way. False where that was this one."""
        while not self._runner.reserve(passage.sequence, count):
            newest = self._running[-1]
            if len(self._running) == 1:
                self._finish(newest, News(fault=MemoryBudgetError(
                    "the memory for running texts is used up: let other answers of this model end, "
                    "then ask again"
                )))  # fmt: skip
                return False
            self._give_way(newest)
            if newest is passage:
                return False
        return True

    def _give_way(self, passage: Passage) -> None:
        """Give the pages back and wait; what was said stays said, and is read again later."""
        self._running.remove(passage)
        self._runner.finish(passage.sequence)
        passage.sequence = Sequence()
        passage.lap()
        self.gave_way += 1
        self._crowded = True
        self._line.rejoin(passage)

    def _step(self, parts: list[tuple[Passage, list[int]]]) -> None:
        """Append the parts, and draw. Where that fails, each half is tried apart: the fault is one text's."""
        started = time.perf_counter()
        rows, drawing, end = [], [], 0
        for passage, part in parts:
            end += len(part)
            if len(part) == passage.left:
                rows.append(end - 1)
                drawing.append(passage)
        appended = [(passage.sequence, part) for passage, part in parts]
        reading = [(passage, part) for passage, part in parts if not passage.writing]
        try:
            states = self._runner.together(appended, rows)
        except BaseException as fault:
            self._step_apart(parts, fault)
            return
        self._measure(sum(len(part) for _, part in reading), time.perf_counter() - started)
        for passage, _ in reading:
            self._was_read(passage)
        if drawing:
            self._draw(drawing, states)
        self.steps += 1
        self.tokens_read += sum(len(part) for _, part in reading)
        self.tokens_written += len(drawing)
        self.step_seconds += time.perf_counter() - started

    def _step_apart(self, parts: list[tuple[Passage, list[int]]], fault: BaseException) -> None:
        """A step failed, so it never happened. Alone as in company a row has the same bits."""
        if len(parts) == 1:
            self._finish(parts[0][0], went_wrong(fault), keep=False)
            return
        for half in (parts[: len(parts) // 2], parts[len(parts) // 2 :]):
            with_room = [p for p in half if p[0] in self._running and self._has_room(p[0], len(p[1]))]
            if left := [p for p in with_room if p[0] in self._running]:
                self._step(left)

    def _measure(self, read: int, seconds: float) -> None:
        if read >= _FEWEST:
            speed = read / seconds
            self._speed = speed if not self._speed else 0.5 * (self._speed + speed)

    def _was_read(self, passage: Passage) -> None:
        """A part of a prompt is in its pages: remember it where others may begin with it."""
        request, length = passage.request, passage.sequence.length
        if length in request.marks or length == len(request.ids):
            self._runner.keep(passage.ids, passage.sequence, request.key)
        if passage.left == 0:
            passage.run.prefill_seconds += passage.lap()
        passage.tell(News(read=min(length, len(request.ids))))

    def _draw(self, drawing: list[Passage], states: Any) -> None:
        """Draw for each: the head is asked about all rows at once, as far as they ask for few candidates."""
        wanted = [(row, want) for row, passage in enumerate(drawing) if (want := self._want(passage))]
        for few in (True, False):
            if chosen := [(row, want) for row, want in wanted if (want.k <= _FEW) == few]:
                self._ask(drawing, states, chosen)

    def _ask(self, drawing: list[Passage], states: Any, chosen: list[tuple[int, TopK]]) -> None:
        """One question to the head; where it cannot be answered, one for each."""
        rows = [row for row, _ in chosen]
        try:
            found = self._runner.head(states[rows], combined([want for _, want in chosen]))
        except BaseException as fault:
            if len(chosen) == 1:
                self._finish(drawing[rows[0]], went_wrong(fault), keep=False)
                return
            for one in chosen:
                self._ask(drawing, states, [one])
            return
        for place, row in enumerate(rows):
            self._take(drawing[row], found, place)

    def _want(self, passage: Passage) -> TopK | None:
        """What to ask of the head; None where that failed, and the text is over."""
        request = passage.request
        try:
            return request.sampler.want(request.constraint.allowed() if request.constraint else None)
        except BaseException as fault:
            self._finish(passage, went_wrong(fault))
            return None

    def _take(self, passage: Passage, found: Any, row: int) -> None:
        """Draw a token, and append it to the text or end that."""
        request = passage.request
        passage.run.decode_seconds += passage.lap()
        try:
            draw = request.sampler.draw(found, len(passage.ids), row)
            if draw.id in request.stops:
                self._finish(passage, News(end="stop"))
                return
            passage.ids.append(draw.id)
            end = request.end_of(passage.ids, self._runner.context)
        except BaseException as fault:
            sound = not isinstance(fault, NotFiniteError)
            if not sound:
                self._runner.snapshots.clear()  # nothing of it may be read by the next request
            self._finish(passage, went_wrong(fault), keep=sound)
            return
        told = News((draw,), len(request.ids), end)
        if end is None:
            passage.tell(told)
        else:
            self._finish(passage, told)

    def _finish(self, passage: Passage, told: News, keep: bool = True) -> None:
        """A text is over: remember it, give its pages back, and say so."""
        if passage in self._running:
            if keep and self._runner.holds(passage.sequence):
                self._runner.keep(passage.ids, passage.sequence, passage.request.key)
            self._running.remove(passage)
            self._crowded = False
        self._let_go(passage)
        passage.tell(told)

    def _let_go(self, passage: Passage) -> None:
        """Give back what a text holds."""
        self._runner.finish(passage.sequence)
        if self._runner.eyes is not None:
            self._runner.eyes.let_go(passage.request.pixels)


def combined(wants: list[TopK]) -> TopK:
    """One question whose answer serves each: more candidates than were asked for change no draw."""
    also = [want.also for want in wants if want.also is not None]
    masks = [want.allowed for want in wants]
    allowed = masks[0]
    if any(mask is not allowed for mask in masks):
        size = next(len(mask) for mask in masks if mask is not None)
        allowed = np.stack([np.ones(size, np.bool_) if mask is None else mask for mask in masks])
    return TopK(
        max(want.k for want in wants),
        allowed,
        np.unique(np.concatenate(also)).astype(np.int32) if also else None,
        any(want.lse for want in wants),
    )
