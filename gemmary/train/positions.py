"""Perplexity by position: how well a model predicts what stands early, and what stands late, in a text.

A model whose global layers have never seen a distance fails at it, and the mean over a text hides where.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch

from ..ops.contract import Ints, Step
from .loss import LOGITS
from .packing import Rows


class Predictor(Protocol):
    """Anything that turns a step into hidden states [R, D] and has a table [V, D] as its head."""

    table: Any

    def __call__(self, step: Step) -> torch.Tensor:
        """Final hidden states of the rows that want logits."""
        ...


class Bucket(NamedTuple):
    """Tokens at first <= position < last of their documents: how many, and their mean loss in nats."""

    first: int
    last: int
    tokens: float
    loss: float

    @property
    def perplexity(self) -> float:
        """exp(loss); infinite where that is no float."""
        return math.exp(self.loss) if self.loss < 700 else math.inf


@torch.no_grad()
def loss_by_position(model: Predictor, data: Rows, edges: Sequence[int], rows: int = 1) -> list[Bucket]:
    """Mean losses of the tokens of `data` by where they stand; `rows` rows are run at a time.

    edges: ascending borders of the buckets; tokens outside all of them are left out. The position is that of
    the token which is predicted, counted from 0 at the start of its document; weights count as in training.
    ValueError: borders that do not ascend, or a bucket without a token.
    """
    if len(edges) < 2 or any(a >= b for a, b in pairwise(edges)):
        raise ValueError(f"the borders of positions must ascend: {list(edges)}")
    sums, counts = np.zeros(len(edges) - 1), np.zeros(len(edges) - 1)
    for first in range(0, len(data), rows):
        part = data.take(slice(first, first + rows))
        step, targets, weights = part.step()
        losses = token_losses(model(step), model.table.weight, targets)
        bucket = np.searchsorted(edges, step.pos[step.rows] + 1, side="right") - 1
        inside = (bucket >= 0) & (bucket < len(sums))
        np.add.at(sums, bucket[inside], (losses * weights)[inside])
        np.add.at(counts, bucket[inside], weights[inside])
    if not counts.all():
        empty = int(np.flatnonzero(counts == 0)[0])
        raise ValueError(f"no document has tokens at positions {edges[empty]:,} to {edges[empty + 1]:,}")
    found = zip(pairwise(edges), counts, sums / counts, strict=True)
    return [Bucket(*ends, float(count), float(loss)) for ends, count, loss in found]


def token_losses(h: torch.Tensor, table: torch.Tensor, targets: Ints) -> npt.NDArray[np.float64]:
    """-log softmax(h table^T)[target] of each token [R], from h [R, D] and table [V, D], some at a time."""
    wanted = torch.as_tensor(targets, device=h.device).long()
    size = max(1, LOGITS // len(table))
    parts = [
        torch.nn.functional.cross_entropy((some @ table.T).float(), ids, reduction="none")
        for some, ids in zip(h.split(size), wanted.split(size), strict=True)
    ]
    losses: npt.NDArray[np.float64] = torch.cat(parts).double().numpy(force=True)
    return losses


def doubling(shortest: int, longest: int) -> list[int]:
    """Borders 0, shortest, 2 shortest, 4 shortest, ... up to `longest`."""
    edges = [0, shortest]
    while edges[-1] < longest:
        edges.append(min(2 * edges[-1], longest))
    return edges
