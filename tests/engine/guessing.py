"""Guesses that a test decides on, instead of the policy and the clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from gemmary.engine import decoding
from gemmary.engine.speculation import LENGTHS

Guesser = Callable[[Sequence[int], int], list[int]]  # the text so far, how many -> guesses


class Scripted:
    """A proposer whose guesses are a function of the text."""

    name = "lookup"
    seconds = 0.0
    ready = True

    def __init__(self, ids: Sequence[int], guess: Guesser) -> None:
        self._ids = ids
        self._guess = guess

    def grade(self) -> int:
        return 8

    def read(self) -> None: ...

    def propose(self, count: int) -> list[int]:
        return self._guess(self._ids, count)

    def finish(self) -> None: ...


class Always:
    """Speculation that guesses at every step, in lengths that change."""

    lengths: Sequence[int] = LENGTHS

    def __init__(self, experience: Any, proposers: list[Any]) -> None:
        self.proposers = proposers
        self._step = 0

    def choose(self, limit: int) -> tuple[Any, int] | None:
        self._step += 1
        length = min(self.lengths[self._step % len(self.lengths)], limit)
        proposer = self.proposers[-1]
        return (proposer, length) if length > 0 and proposer.grade() is not None else None

    def observe(self, *_: Any) -> None: ...

    def end(self) -> None: ...


def always(monkeypatch: pytest.MonkeyPatch, guess: Guesser | None = None) -> None:
    """Guess at every step: with `guess`, or with the last of the proposers that a text really has."""
    monkeypatch.setattr(decoding, "Speculation", Always)
    if guess is not None:
        make = lambda self: [Scripted(self._ids, guess)]  # noqa: E731
        monkeypatch.setattr(decoding.Decoding, "_proposers", make)


def right(text: Sequence[int], end: int = 1) -> Guesser:
    """Knows the whole text, and that it ends: behind it comes the token `end`."""
    known = [*text, *[end] * 20]
    return lambda ids, count: known[len(ids) : len(ids) + count]


def wrong(text: Sequence[int], vocab: int) -> Guesser:
    """Every guess is another token than the text has."""
    known = [*text, *[0] * 20]
    return lambda ids, count: [(token + 7) % vocab for token in known[len(ids) : len(ids) + count]]


def lucky(text: Sequence[int], vocab: int, seed: int) -> Guesser:
    """Some are right: seven of eight."""
    rng, known = np.random.default_rng(seed), [*text, *[1] * 20]

    def guess(ids: Sequence[int], count: int) -> list[int]:
        luck = rng.random(count) < 7 / 8
        return [
            token if good else int(rng.integers(vocab))
            for token, good in zip(known[len(ids) : len(ids) + count], luck, strict=True)
        ]

    return guess
