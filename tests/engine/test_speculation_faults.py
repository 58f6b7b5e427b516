"""Guessed steps that are left, cancelled or broken: what was drawn before is sound, and pages come back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gemmary
from gemmary.engine import decoding, runner
from gemmary.engine.answer import Answer
from gemmary.engine.generate import generate
from gemmary.engine.request import Request, Run
from gemmary.engine.sampling import NotFiniteError, Sampler, Sampling
from gemmary.engine.transcript import Transcript
from gemmary.errors import GemmaryError
from gemmary.inputs.stream import StopStrings
from gemmary.model.text import hidden
from gemmary.ops.contract import TopK
from tests.parity.sharp import VOCAB

from .guessing import Always, always, lucky, right
from .pool import settled
from .questions import PROMPT, WORDS


@pytest.mark.parametrize("seconds", [0.0, 60.0])
@pytest.mark.parametrize("close_after", [1, 2, 5, 11, 12, 13])
def test_leaving_in_the_middle_of_what_was_drawn(
    fresh: gemmary.Model,
    model: gemmary.Model,
    monkeypatch: pytest.MonkeyPatch,
    close_after: int,
    seconds: float,
) -> None:
    """Tokens that nobody saw are rolled back: the next request finds what a plain stream would have left."""
    monkeypatch.setattr(decoding, "_BURST_SECONDS", seconds)
    asked: dict[str, Any] = {"seed": 6, "logit_bias": WORDS}
    plain = model.generate(PROMPT, max_tokens=40, speculate=False, **asked)
    always(monkeypatch, right([*PROMPT, *plain.ids]))
    stream = fresh.generate(PROMPT, stream=True, max_tokens=30, **asked)
    ids = sum((next(stream).ids for _ in range(close_after)), ())
    stream.close()
    assert ids == plain.ids[: len(ids)]
    again = fresh.generate([*PROMPT, *ids, 9], seed=1, max_tokens=1)
    assert again.usage.cached_tokens == len(PROMPT) + len(ids) - 1
    assert settled(fresh)[1] == 0


@pytest.mark.parametrize("seconds", [0.0, 60.0])
@pytest.mark.parametrize("step", [1, 2, 3, 5])
def test_cancelling_inside_a_step_of_guesses(
    fresh: gemmary.Model, model: gemmary.Model, monkeypatch: pytest.MonkeyPatch, step: int, seconds: float
) -> None:
    """The step that is left never happened; its pages are back, and the steps before it are sound."""
    monkeypatch.setattr(decoding, "_BURST_SECONDS", 0.0)
    plain = model.generate(PROMPT, seed=3, max_tokens=40, speculate=False)
    seen: list[int] = []
    always(monkeypatch, lucky([*PROMPT, *plain.ids], VOCAB, 1))
    stream = fresh.generate(PROMPT, stream=True, seed=3, max_tokens=40)
    ids = next(stream).ids

    def leave(decoder: Any, step_: Any, kvs: Any) -> Any:
        seen.append(len(step_.ids))
        if len(seen) == step:
            stream._cancel.set()
        return hidden(decoder, step_, kvs)

    monkeypatch.setattr(decoding, "_BURST_SECONDS", seconds)
    with monkeypatch.context() as patch:
        patch.setattr(runner, "hidden", leave)
        pieces = list(stream)
    assert pieces[-1].finish_reason == "cancelled"
    assert len(seen) == step
    ids += sum((piece.ids for piece in pieces), ())
    assert ids == plain.ids[: len(ids)]
    more = [*PROMPT, *ids, 9]
    again = fresh.generate(more, seed=1, max_tokens=9)
    assert again.usage.cached_tokens == len(more) - 2
    assert again.ids == model.generate(more, seed=1, max_tokens=9, speculate=False).ids
    assert settled(fresh)[1] == 0


class Breaks:
    """A constraint that allows all and raises when it is asked for the n-th time."""

    def __init__(self, calls: int) -> None:
        self._left = calls

    def allowed(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise GemmaryError("it broke")

    def accept(self, token: int) -> bool:
        return False


@pytest.mark.parametrize("calls", [0, 1, 2, 6, 9])
def test_a_fault_behind_good_draws_comes_behind_them(
    fresh: gemmary.Model, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    def pieces(speculate: bool) -> list[int]:
        sampler = Sampler(Sampling(logit_bias=WORDS), PROMPT, VOCAB, None)
        request = Request(PROMPT, sampler, frozenset(), 40, Breaks(calls), speculate=speculate)
        run = Run()
        draws = generate(fresh._admit(request), fresh._thread, request, run)
        answer = Answer(draws, Transcript(fresh.tokenizer, request, run, StopStrings(()), False))
        ids: list[int] = []
        with pytest.raises(GemmaryError, match="it broke"):
            for piece in answer.stream():
                ids += piece.ids
        return ids

    plain = pieces(False)
    assert len(plain) == calls
    always(monkeypatch, right([*PROMPT, *plain]))
    assert pieces(True) == plain
    assert settled(fresh)[1] == 0


def test_nan_behind_good_draws_comes_behind_them(
    fresh: gemmary.Model, model: gemmary.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = model.generate(PROMPT, seed=3, max_tokens=40, speculate=False, logit_bias=WORDS)
    head = fresh._runner.head  # type: ignore[union-attr]

    def damaged(states: Any, want: TopK) -> Any:
        found = head(states, want)
        found.logits[4:] = np.nan
        return found

    monkeypatch.setattr(fresh._runner, "head", damaged)
    always(monkeypatch, right([*PROMPT, *plain.ids]))
    monkeypatch.setattr(Always, "lengths", (7,))
    stream = fresh.generate(PROMPT, stream=True, seed=3, max_tokens=40, logit_bias=WORDS)
    ids: list[int] = []
    with pytest.raises(NotFiniteError):
        for piece in stream:
            ids += piece.ids
    assert ids == list(plain.ids[:5])  # one from the prompt, four sound rows
    assert settled(fresh) == (0, 0)
