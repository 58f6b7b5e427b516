"""Logits of chosen rows of a text, and how likely a continuation is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import PromptError
from ..model.pages import Sequence
from ..ops.contract import Floats, Full, Ints, Scored, Targets, Want
from .request import Text
from .runner import Runner
from .sampling import NotFiniteError
from .thread import Cancelled, EngineThread


@dataclass(frozen=True)
class Score:
    """How likely a continuation is: natural log-probability of each id, and whether greedy says it."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    greedy: bool

    @property
    def total(self) -> float:
        """Log-probability of the whole continuation."""
        return sum(self.logprobs)


def row_logits(runner: Runner, thread: EngineThread, text: Text, rows: list[int]) -> Floats:
    """Logits float32 [len(rows), V] after the tokens `rows` of a text, each from 0 to its length - 1."""
    out = np.empty((len(rows), runner.config.vocab), np.float32)
    for inside, logits in _answers(runner, thread, text, np.array(rows, np.int32), lambda _: Full()):
        out[inside] = logits
    return out


def score(runner: Runner, thread: EngineThread, text: Text, continuation: list[int]) -> Score:
    """Score `continuation` behind a text. NotFiniteError when the model computes NaN."""
    targets = np.array(continuation, np.int32)
    length = len(text.ids)
    rows = np.arange(length - 1, length + len(targets) - 1, dtype=np.int32)
    whole = Text([*text.ids, *continuation], text.pixels)
    logprobs: list[float] = []
    greedy = True
    found: Scored
    for inside, found in _answers(runner, thread, whole, rows, lambda i: Targets(targets[i])):
        if not np.isfinite(found.lse).all():
            raise NotFiniteError
        logprobs += (found.logits.astype(np.float64) - found.lse).tolist()
        greedy = greedy and np.array_equal(found.best, targets[inside])
    return Score(tuple(continuation), tuple(logprobs), greedy)


def _answers(
    runner: Runner, thread: EngineThread, text: Text, rows: Ints, want: Callable[[Ints], Want]
) -> Iterator[tuple[Ints, Any]]:
    """Step by step: places in `rows`, and what the head answers there to `want` of these places."""
    sequence, cancel = Sequence(), threading.Event()

    def step() -> tuple[Ints, Any]:
        start = sequence.length
        part = runner.part(text.ids, start)
        if not runner.ready(part, text.pixels):
            return np.zeros(0, np.int32), None
        inside = np.flatnonzero((rows >= start) & (rows < start + len(part))).astype(np.int32)
        states = runner.step(sequence, part, rows[inside] - start, cancel)
        return inside, runner.head(states, want(inside)) if len(inside) else None

    def finish() -> None:
        runner.finish(sequence)
        if runner.eyes is not None:
            runner.eyes.let_go(text.pixels)

    try:
        thread.run(lambda: runner.start([], sequence))
        while sequence.length <= rows.max(initial=-1):
            inside, answer = thread.run(step, cancel)
            if len(inside):
                yield inside, answer
    except Cancelled:
        raise PromptError("this model was closed meanwhile: load it again") from None
    finally:
        thread.later(finish)
