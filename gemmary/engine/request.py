"""What is asked of the engine, and what has become of it so far."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from .eyes import Pixels
from .sampling import Sampler

Progress = Callable[[int, int], object]
End = Literal["stop", "length", "context_full", "cancelled"]


class Constraint(Protocol):
    """Which tokens may come next."""

    def allowed(self) -> npt.NDArray[np.bool_] | None:
        """bool [V], or None for all."""

    def accept(self, token: int) -> bool:
        """Take the chosen token; True when nothing may follow."""


@dataclass(frozen=True)
class Text:
    """Ids of which those below zero are pictures, and the pixels of these (eyes.py)."""

    ids: list[int]
    pixels: Pixels = field(default_factory=dict)


@dataclass(eq=False)
class Request:
    """One text to continue: 1 to context - 1 ids, of which at most max_tokens more are made.

    A token of `stops` ends it. Setting `cancel`, from any thread, ends it within 0.1 s. `speculate`: whether
    tokens may be guessed and then checked; that changes how long it takes and nothing else. `pixels`: the
    pictures among the ids (eyes.py). `key`: what is remembered of texts serves only texts with the same key
    (prefix.py). `marks`: ascending lengths of the prompt at which somebody else's text may branch off.
    """

    ids: list[int]
    sampler: Sampler
    stops: frozenset[int]
    max_tokens: int | None = None
    constraint: Constraint | None = None
    progress: Progress | None = None
    speculate: bool = True
    pixels: Pixels = field(default_factory=dict)
    key: bytes = b""
    marks: tuple[int, ...] = ()
    cancel: threading.Event = field(default_factory=threading.Event)

    def end_of(self, ids: list[int], context: int) -> End | None:
        """Take the last of `ids`, which was just drawn and is no stop token: why it ends the text, if so."""
        if self.constraint is not None and self.constraint.accept(ids[-1]):
            return "stop"
        if len(ids) - len(self.ids) == self.max_tokens:
            return "length"
        return "context_full" if len(ids) >= context else None


@dataclass
class Run:
    """What a request has used so far. `end` is set when it is over.

    Of `drafted` tokens, guessed and checked, `accepted` were what the model said. `unseen`: pictures of the
    prompt that have to be encoded still; of one that is being encoded, the part that is left.
    """

    cached: int = 0
    queued_seconds: float = 0.0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    drafted: int = 0
    accepted: int = 0
    unseen: float = 0.0
    end: End | None = None
