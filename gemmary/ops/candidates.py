"""The k best ids of full logit rows: the plain answer to `TopK`."""

from __future__ import annotations

import numpy as np

from .contract import Candidates, Floats, Ints, TopK


def candidates(logits: Floats, lse: Floats, want: TopK) -> Candidates:
    """Select from logits [R, V]: sorted by falling logit, then rising id, so that ties have one order."""
    found = [_row(logits[r], want.of(slice(r, r + 1))) for r in range(len(logits))]
    return Candidates(np.stack([ids for ids, _ in found]), np.stack([kept for _, kept in found]), lse)


def _row(logits: Floats, want: TopK) -> tuple[Ints, Floats]:
    """One row; `allowed` is [V] or [1, V]."""
    masked = logits
    if want.allowed is not None:
        masked = np.where(want.allowed.reshape(-1), logits, np.float32(-np.inf))
    k = min(want.k, len(masked))
    also = np.zeros(0, np.int32) if want.also is None else want.also
    chosen = np.union1d(_largest(masked, k), also)
    ordered = chosen[np.lexsort((chosen, -masked[chosen]))]
    ids = np.zeros(k + len(also), np.int32)
    values = np.full(len(ids), -np.inf, np.float32)
    ids[: len(ordered)], values[: len(ordered)] = ordered, masked[ordered]
    return ids, values


def _largest(logits: Floats, k: int) -> Ints:
    """The k largest; among equals at the border, the smallest ids."""
    if k == len(logits):
        return np.arange(k, dtype=np.int32)
    border = np.partition(logits, len(logits) - k)[len(logits) - k]
    above = np.flatnonzero(logits > border)
    equal = np.flatnonzero(logits == border)[: k - len(above)]
    return np.concatenate([above, equal]).astype(np.int32)
