"""The generation loop: the oracle that every faster way must equal, token for token."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from ..errors import ContextFullError, GemmaryError
from ..model.pages import Sequence
from .runner import Cancelled, Runner
from .sampling import Draw, Sampler
from .thread import EngineThread

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
    """One text to continue."""

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


def generate(runner: Runner, thread: EngineThread, request: Request, run: Run) -> Iterator[Draw]:
    """Draw after draw; a stop token ends the run and is not yielded.

    ContextFullError when the prompt leaves no room for a token. Closing the iterator cancels.
    """
    if len(request.ids) >= runner.context:
        raise ContextFullError(
            f"the prompt has {len(request.ids)} tokens and the context holds {runner.context}: "
            "shorten it, or load the model with a larger context"
        )
    ids = list(request.ids)
    sequence = thread.run(lambda: runner.snapshots.start(ids))
    run.cached = sequence.length
    try:
        yield from _tokens(runner, thread, request, run, ids, sequence)
    except Cancelled:
        run.end = "cancelled"
    except GeneratorExit:
        run.end = run.end or "cancelled"
        raise
    except GemmaryError:
        thread.run(runner.snapshots.clear)  # whatever went wrong must not be read by the next request
        raise
    finally:
        thread.run(lambda: _finish(runner, ids, sequence, run.end is not None))


def _tokens(
    runner: Runner, thread: EngineThread, request: Request, run: Run, ids: list[int], sequence: Sequence
) -> Iterator[Draw]:
    started = time.perf_counter()
    states = _prefill(runner, thread, request, ids, sequence)
    thread.run(lambda: runner.snapshots.keep(ids, sequence))
    run.prefill_seconds = time.perf_counter() - started
    while True:
        started = time.perf_counter()
        draw = thread.run(lambda: _draw(runner, request, states, len(ids)), request.cancel)
        run.decode_seconds += time.perf_counter() - started
        if draw.id in request.stops:
            run.end = "stop"
            return
        ids.append(draw.id)
        complete = request.constraint is not None and request.constraint.accept(draw.id)
        run.end = _end(runner, request, ids, complete)
        yield draw
        if run.end is not None:
            return
        started = time.perf_counter()
        states = thread.run(lambda: runner.step(sequence, ids[-1:], [0], request.cancel), request.cancel)
        run.decode_seconds += time.perf_counter() - started


def _prefill(
    runner: Runner, thread: EngineThread, request: Request, ids: list[int], sequence: Sequence
) -> object:
    states = None
    while sequence.length < len(ids):
        if request.progress is not None and request.progress(sequence.length, len(ids)) is False:
            raise Cancelled
        states, _ = thread.run(
            lambda: runner.chunk(sequence, ids[sequence.length :], request.cancel), request.cancel
        )
    if request.progress is not None:
        request.progress(len(ids), len(ids))
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


def _finish(runner: Runner, ids: list[int], sequence: Sequence, sound: bool) -> None:
    if sound and sequence.length:
        runner.snapshots.keep(ids, sequence)
    runner.pages.release(sequence)
