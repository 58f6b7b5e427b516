"""What the inner loops of attention share: one head's part of a page, and scratch memory for query rows."""

from __future__ import annotations

from dataclasses import dataclass

from ..contract import PAGE
from .emit import Emitter, Value

MOST = 6  # rows in registers at once
CACHE_LINE = 64
PIECES = 2  # bytes of an exponential where it is rounded: see `attention_codes`

_CODES = MOST * 4 * PAGE
_WEIGHTS = _CODES + MOST * PIECES * PAGE
_SCALES = _WEIGHTS + MOST * 8
SCRATCH = _SCALES + MOST * 4  # bytes: exponentials, their codes, two weights and a scale of each row


@dataclass(frozen=True)
class Page:
    """One head's part of a page, and what all rows share; see `take_page`."""

    keys: Value
    values: Value
    base: Value
    head_dim: Value
    scale: Value
    scratch: Value
    ahead: Value

    def powers(self, e: Emitter, m: int) -> Value:
        """Where the scores, later exponentials, of a row are: float32 [64]."""
        return e.at(self.scratch, 4 * PAGE * m)

    def weights(self, e: Emitter, m: int) -> Value:
        """Where the two weights of a row are."""
        return e.at(self.scratch, _WEIGHTS + 8 * m)

    def codes(self, e: Emitter, m: int) -> Value:
        """Where a row's exponentials are as bytes: [2, 64]."""
        return e.at(self.scratch, _CODES + PIECES * PAGE * m)

    def scales(self, e: Emitter, m: int) -> Value:
        """Where the scale of a row's codes is."""
        return e.at(self.scratch, _SCALES + 4 * m)
