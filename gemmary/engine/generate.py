"""The generation loop: the oracle that every faster way must equal, token for token."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from ..model.pages import Sequence
from .runner import Runner
from .sampling import Draw, NotFiniteError, Sampler
from .thread import Cancelled, EngineThread

Progress = Callable[[int, int], object]
End = Literal["stop", "length", "context_full", "cancelled"]


class Constraint(Protocol):
    """Which tokens may come next."""

    def allowed(self) -> npt.NDArray[np.bool_] | None:
        """bool [V], or None for all."""

    def accept(self, token: int) -> bool:
        """Take the chosen token; True when nothing may follow."""


@dataclass(eq=False)
class Request:
    """One text to continue: 1 to context - 1 ids, of which at most max_tokens more are made.

    A token of `stops` ends it. Setting `cancel`, from any thread, ends it within 0.1 s.
    """

    ids: list[int]
    sampler: Sampler
    stops: frozenset[int]
    max_tokens: int | None = None
    constraint: Constraint | None = None
    progress: Progress | None = None
    cancel: threading.Event = field(default_factory=threading.Event)


@dataclass
class Run:
    """What a request has used so far. `end` is set when it is over."""

    cached: int = 0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    end: End | None = None


def generate(runner: Runner, thread: EngineThread, request: Request, run: Run) -> Generator[Draw, None, None]:
    """Draw after draw; a stop token ends the run and is not yielded. Closing the iterator cancels.

    However it ends, the pages are given back, behind whatever the engine thread is doing.
    """
    ids, sequence = list(request.ids), Sequence()
    sound = True
    try:
        run.cached = thread.run(lambda: runner.start(ids, sequence))
        yield from _draws(runner, thread, request, run, ids, sequence)
    except Cancelled:
        run.end = "cancelled"
    except NotFiniteError:
        sound = False
        thread.later(runner.snapshots.clear)  # nothing of it may be read by the next request
        raise
    finally:
        run.end = run.end or "cancelled"
        if sound:
            thread.later(lambda: runner.keep(ids, sequence))
        thread.later(lambda: runner.finish(sequence))


def _draws(
    runner: Runner, thread: EngineThread, request: Request, run: Run, ids: list[int], sequence: Sequence
) -> Generator[Draw, None, None]:
    started = time.perf_counter()
    states = _prefill(runner, thread, request, ids, sequence)
    run.prefill_seconds = time.perf_counter() - started

    def advance() -> Draw:
        nonlocal states
        if sequence.length < len(ids):
            states = runner.step(sequence, ids[-1:], [0], request.cancel)
        return _draw(runner, request, states, len(ids))

    while run.end is None:
        started = time.perf_counter()
        draw = thread.run(advance, request.cancel)
        run.decode_seconds += time.perf_counter() - started
        if len(ids) == len(request.ids):
            thread.later(lambda: runner.keep(request.ids, sequence))
        if draw.id in request.stops:
            run.end = "stop"
            return
        ids.append(draw.id)
        complete = request.constraint is not None and request.constraint.accept(draw.id)
        run.end = _end(runner, request, ids, complete)
        yield draw


def _prefill(
    runner: Runner, thread: EngineThread, request: Request, ids: list[int], sequence: Sequence
) -> object:
    """Hidden state of the last of `ids`."""

    def report() -> None:
        if request.progress is not None and request.progress(sequence.length, len(ids)) is False:
            request.cancel.set()

    def step() -> object:
        part = ids[sequence.length : sequence.length + runner.chunk]
        return runner.step(sequence, part, [len(part) - 1], request.cancel)

    states = None
    report()
    while sequence.length < len(ids):
        states = thread.run(step, request.cancel, report)
        report()
    return states


def _draw(runner: Runner, request: Request, states: object, position: int) -> Draw:
    allowed = None if request.constraint is None else request.constraint.allowed()
    return request.sampler.draw(runner.head(states, request.sampler.want(allowed)), position)


def _end(runner: Runner, request: Request, ids: list[int], complete: bool) -> End | None:
    """Why the token just drawn is the last one, or None."""
    if complete:
        return "stop"
    if request.max_tokens is not None and len(ids) - len(request.ids) >= request.max_tokens:
        return "length"
    return "context_full" if len(ids) >= runner.context else None
