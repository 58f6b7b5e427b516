"""What changes logits before a draw: bias, and penalties for what was said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..ops.contract import Ints

if TYPE_CHECKING:
    from .sampling import Sampling


class Penalties:
    """The adjustments of one request, kept as arrays over the vocabulary."""

    def __init__(self, sampling: Sampling, prompt: Sequence[int], vocab: int) -> None:
        """Untouched parts of the arrays cost no memory."""
        self._sampling = sampling
        self._bias = np.zeros(vocab, np.float64)
        self._count = np.zeros(vocab, np.int32)
        self._seen = np.zeros(vocab, np.bool_)
        for token, bias in sampling.logit_bias.items():
            self._bias[token] = bias
        if sampling.repeat_penalty != 1.0:
            self._seen[np.asarray(prompt, np.int64)] = True
        touched = self._seen | (self._bias != 0)
        self._ids: Ints = np.flatnonzero(touched).astype(np.int32)

    @staticmethod
    def needed(sampling: Sampling) -> bool:
        """Whether any logit changes."""
        return bool(sampling.logit_bias) or Penalties._counts(sampling)

    def ids(self, drafts: Sequence[int] = ()) -> Ints:
        """Ids whose logits change now, or will where `drafts` are said; sorted."""
        if not drafts or not self._counts(self._sampling):
            return self._ids
        return np.union1d(self._ids, np.array(drafts, np.int32)).astype(np.int32)

    def count(self, token: int) -> None:
        """`token` was said."""
        if not self._counts(self._sampling):
            return
        self._count[token] += 1
        at = int(np.searchsorted(self._ids, token))
        if at == len(self._ids) or self._ids[at] != token:
            self._ids = np.insert(self._ids, at, token)

    def uncount(self, token: int) -> None:
        """It was not said after all."""
        if self._counts(self._sampling):
            self._count[token] -= 1

    def adjust(self, ids: Ints, logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Logits of `ids` after bias and penalties, in the order that `Sampling` states."""
        s, count = self._sampling, self._count[ids]
        said = count > 0
        x = logits + self._bias[ids]
        repeated = np.where(x > 0, x / s.repeat_penalty, x * s.repeat_penalty)
        x = np.where(said | self._seen[ids], repeated, x)
        result: npt.NDArray[np.float64] = x - s.frequency_penalty * count - s.presence_penalty * said
        return result

    @staticmethod
    def _counts(s: Sampling) -> bool:
        """Whether it matters what was said."""
        return s.repeat_penalty != 1.0 or bool(s.presence_penalty) or bool(s.frequency_penalty)
