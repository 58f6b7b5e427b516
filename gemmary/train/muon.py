"""Muon: momentum, made orthogonal (Jordan, 2024), scaled to the size of AdamW's updates (arXiv 2502.16982).

    b <- b + (1 - m)(g - b);   u <- g + m (b - g)
    w <- w (1 - rate decay) - rate 0.2 sqrt(max(rows, columns)) O(u)

O(u) needs the whole matrix: its rows depend on each other. Where matrices are cut over processes, momentum
and weights stay in shards, and the updates of as many matrices of one shape as there are shards change hands:
each process gets one of them whole, makes it orthogonal, and gives the rows back. Nothing is computed twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import distributed
from torch.distributed.tensor import DTensor

from .row_shard import local, rows_of, shards_of

Tensor = torch.Tensor
QUINTIC = (3.4445, -4.7750, 2.0315)  # Jordan's: singular values to about 1 in five steps
STEPS = 5
SMALLEST = 1e-7  # a norm below counts as this


class Muon(torch.optim.Optimizer):
    """For matrices [rows, columns], whole or sharded by rows. `lr` is AdamW's."""

    def __init__(
        self, params: Iterable[Tensor], lr: float = 1e-3, weight_decay: float = 0.1, momentum: float = 0.95
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of every matrix that has a gradient."""
        for group in self.param_groups:
            found = sorted((p for p in group["params"] if p.grad is not None), key=_shape)
            for _, alike in groupby(found, key=_shape):
                self._of_one_shape(list(alike), group)

    def _of_one_shape(self, matrices: Sequence[Tensor], group: dict[str, Any]) -> None:
        shards = shards_of(matrices[0])[0] if isinstance(matrices[0], DTensor) else 1
        for first in range(0, len(matrices), shards):
            some = matrices[first : first + shards]
            updates = orthogonal(
                [self._momentum(p, p.grad, group["momentum"]) for p in some if p.grad is not None], some[0]
            )
            for matrix, update in zip(some, updates, strict=True):
                here = local(matrix)
                here.mul_(1 - group["lr"] * group["weight_decay"])
                here.add_(update, alpha=-group["lr"] * 0.2 * max(matrix.shape) ** 0.5)

    def _momentum(self, matrix: Tensor, grad: Tensor, share: float) -> Tensor:
        """The update before it is made orthogonal, of the rows here, in bfloat16."""
        state = self.state[matrix]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(grad)
        grad, moving = local(grad), local(state["momentum_buffer"])
        moving.lerp_(grad, 1 - share)
        return grad.lerp(moving, share).bfloat16()


def orthogonal(updates: Sequence[Tensor], like: Tensor) -> list[Tensor]:
    """The orthogonal factors of matrices of one shape; of those that are cut as `like` is, the rows here."""
    if not isinstance(like, DTensor):
        return [newton_schulz(update) for update in updates]
    shards, place = shards_of(like)
    rows = [last - first for first, last in (rows_of(like.shape[0], shards, at) for at in range(shards))]
    here = [rows[place]] * len(updates) + [0] * (shards - len(updates))
    whole = rows if place < len(updates) else [0] * shards
    group = _group(like)
    mine = _exchanged(torch.cat(list(updates)), here, whole, group)
    if len(mine):
        mine = newton_schulz(mine)
    return list(_exchanged(mine, whole, here, group).split(rows[place] or 1))[: len(updates)]


def _group(like: DTensor) -> distributed.ProcessGroup:
    at = next(dim for dim, placement in enumerate(like.placements) if placement.is_shard())
    return like.device_mesh.get_group(at)


def _exchanged(rows: Tensor, sent: list[int], received: list[int], group: distributed.ProcessGroup) -> Tensor:
    """`sent[i]` rows go to process i of the group, `received[i]` come from it."""
    found = rows.new_empty(sum(received), rows.shape[1])
    raw = torch.uint8  # gloo knows no bfloat16
    distributed.all_to_all_single(found.view(raw), rows.contiguous().view(raw), received, sent, group=group)
    return found


def newton_schulz(matrix: Tensor) -> Tensor:
    """O(matrix), in bfloat16: singular vectors kept, singular values between about 0.5 and 1.5."""
    a, b, c = QUINTIC
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.bfloat16().T if tall else matrix.bfloat16()
    x = x / x.norm().clamp(min=SMALLEST)
    for _ in range(STEPS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


def _shape(matrix: Tensor) -> tuple[int, ...]:
    return tuple(matrix.shape)
