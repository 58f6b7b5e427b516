"""What each token of packed rows sees: one interval of columns of its own row.

    same document AND (causal OR same picture) AND within the window

as in Google's code (spec: gemma `_modules.py`, `create_sliding_mask`). The tokens of a document stand in one
row, one after the other, and those of a picture within their document. So "before, or in my picture" ends at
one column, "my document" begins at one, and the window cuts both ends: also a picture longer than itself.
Every mask of training is made of these two numbers a token: dense, in bands, in blocks of FlexAttention.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .contract import Ints, Step

SCORES = 1 << 23  # most scores of a layer that are kept: SDPA keeps none, and is slower where they are few


@dataclass(frozen=True)
class Intervals:
    """Columns of the first and of the last token that each token sees, int32 [B, row]."""

    first: Ints
    last: Ints

    @property
    def whole(self) -> bool:
        """Whether every token sees its whole row, as patches of a picture in the tower do."""
        return bool((self.first == 0).all() and (self.last == self.first.shape[1] - 1).all())


def intervals(step: Step, row: int, window: int | None) -> Intervals:
    """Those of a step of whole rows, on layers with this window (None: a global layer).

    ValueError where tokens are not whole rows, or a sequence crosses a row.
    """
    if len(step.ids) % row:
        raise ValueError(f"{len(step.ids)} tokens are not whole rows of {row}")
    token = np.arange(len(step.ids), dtype=np.int32)
    first, last = step.starts[step.seq], token + step.last_seen - step.pos
    here = token // row * row
    if (first < here).any():
        raise ValueError(f"a sequence crosses the border of a row of {row} tokens")
    if window is not None:
        first = np.maximum(first, token - np.int32(window - 1))
        last = np.minimum(last, token + np.int32(window - 1))
    return Intervals(*((x - here).reshape(-1, row).astype(np.int32) for x in (first, last)))
