"""Cross entropy against the tied table, without ever holding [tokens, V] in memory.

A target is a few ids a token with amounts that sum to 1: one id for the next token, up to 256 for a teacher's
distribution (Gemma 3 report, section 2; see distill.py). The softmax is always over the whole vocabulary.

R tokens, K ids of a target, V vocabulary, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..model.modules import TextModule
from ..ops.contract import Floats, Ints
from .packing import Rows

Tensor = torch.Tensor
CHUNK = 512  # most tokens whose logits exist at a time
LOGITS = 1 << 26  # most logits that exist at a time: 256 MB in float32, 256 tokens of the real vocabulary
BLOCK = 1 << 24  # most numbers that an operation holds beside its result: 64 MB


@dataclass(frozen=True)
class Target:
    """What the predictions of R tokens are pulled to, and how hard.

    `amounts` [R, K] of `ids` [R, K] sum to 1 a token; an id may come twice only where all but one of its
    amounts are 0, or float sums would depend on the order of threads. Logits are divided by `temperature`.
    The loss of a token is `share` * cross entropy + `z` * logsumexp(logits / temperature)^2 (z-loss: PaLM,
    arXiv 2204.02311, section 5).
    """

    ids: Tensor
    amounts: Tensor
    temperature: float = 1.0
    share: float = 1.0
    z: float = 0.0

    def loss_and_slope(self, logits: Tensor, here: slice) -> tuple[Tensor, Tensor]:
        """Losses [r] of the tokens `here`, and their slopes [r, V] by the logits, in the logits' memory."""
        if self.temperature != 1.0:
            logits.div_(self.temperature)
        ids, amounts = self.ids[here], self.amounts[here].to(logits.dtype)
        wanted, top = logits.gather(1, ids), logits.amax(-1, keepdim=True)
        slope = logits.sub_(top).exp_()
        total = slope.sum(-1, keepdim=True)
        lse = total.log() + top
        losses = ((lse - wanted) * amounts).sum(-1) * self.share + self.z * lse[:, 0] ** 2
        slope.mul_((self.share + 2.0 * self.z * lse) / total)  # of the softmax
        slope.scatter_add_(1, ids, amounts * -self.share)
        if self.temperature != 1.0:
            slope.div_(self.temperature)
        return losses, slope


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Gradients are made in the forward pass, while a chunk's logits exist; the backward pass scales them."""

    @staticmethod
    def forward(
        ctx: Any,
        h: Tensor,
        table: Tensor,
        targets: Sequence[Target],
        weights: Tensor,
        dtype: torch.dtype,
        chunk: int,
    ) -> Tensor:
        exact = torch.promote_types(dtype, torch.float32)
        h_low, table_low = h.to(dtype), table.to(dtype)
        h_grad, table_grad = torch.empty_like(h), torch.zeros_like(table, dtype=exact)
        loss = h.new_zeros((), dtype=exact)
        for first in range(0, len(h), chunk):
            here = slice(first, first + chunk)
            losses, slope = _of_chunk((h_low[here] @ table_low.T).to(exact), targets, here)
            loss += (losses * weights[here]).sum()
            low = slope.mul_(weights[here, None]).to(dtype)
            del losses, slope  # products need memory of their own
            h_grad[here] = (low @ table_low).to(h.dtype)
            _add_product(table_grad, low, h_low[here])
            del low  # before the next chunk's logits are made
        ctx.save_for_backward(h_grad, table_grad)
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        h_grad, table_grad = ctx.saved_tensors  # scaled in place: a second backward pass is torch's error
        return h_grad.mul_(outer[0]), table_grad.mul_(outer[0]), None, None, None, None


def _of_chunk(logits: Tensor, targets: Sequence[Target], here: slice) -> tuple[Tensor, Tensor]:
    """Losses [r] and slopes [r, V] of all targets together; the last one may use the logits' memory."""
    *others, last = targets
    found = [target.loss_and_slope(logits.clone(), here) for target in others]
    losses, slope = last.loss_and_slope(logits, here)
    for other_losses, other_slope in found:
        losses += other_losses
        slope += other_slope
    return losses, slope


def _add_product(table_grad: Tensor, slope: Tensor, h: Tensor) -> None:
    """table_grad [V, D] += slope^T [V, r] h [r, D], some rows at a time: no second gradient in memory."""
    rows = max(1, BLOCK // h.shape[1])
    for first in range(0, len(table_grad), rows):
        table_grad[first : first + rows] += slope[:, first : first + rows].T @ h


def chunked_cross_entropy(
    h: Tensor, table: Tensor, targets: Sequence[Target], weights: Floats | Tensor, chunk: int | None = None
) -> Tensor:
    """Sum over tokens of weight * the losses of all `targets`, float32 [] (float64 for a float64 h).

    h [R, D], table [V, D], weights [R]; targets lie where h does. A sum, not a mean: the caller divides by
    the weights of the whole step, however it is cut into micro-batches. Matrices are multiplied in the dtype
    of autocast where that is on; logits and loss are float32. Memory: the two gradients, the table in the
    dtype of multiplication, and one chunk of at most `LOGITS` logits. `chunk`: tokens, to choose otherwise.
    """
    kind = h.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else h.dtype
    amounts = torch.as_tensor(weights, device=h.device)
    size = chunk or max(1, min(CHUNK, LOGITS // (len(table) * len(targets))))
    result: Tensor = _ChunkedCrossEntropy.apply(h, table, targets, amounts, dtype, size)
    return result


def next_token(ids: Ints | Tensor, like: Tensor, share: float = 1.0, z: float = 0.0) -> Target:
    """The target that is one id a token [R], on the device of `like`."""
    labels = torch.as_tensor(ids, device=like.device).long()[:, None]
    return Target(labels, torch.ones_like(labels, dtype=torch.float32), share=share, z=z)


def cross_entropy(
    h: Tensor, table: Tensor, targets: Ints, weights: Floats, chunk: int | None = None, z: float = 0.0
) -> Tensor:
    """Sum over tokens of weight * -log softmax(h table^T)[target]: `chunked_cross_entropy` of next tokens."""
    return chunked_cross_entropy(h, table, [next_token(targets, h, z=z)], weights, chunk)


@torch.no_grad()
def mean_loss(model: TextModule, data: Rows, rows: int = 8) -> float:
    """Mean loss a weighted token in float32, `rows` rows at a time; its exponential is the perplexity."""
    total = 0.0
    for first in range(0, len(data), rows):
        step, targets, weights = data.take(slice(first, first + rows)).step()
        total += cross_entropy(model(step), model.table.weight, targets, weights).item()
    return total / float(data.weights.sum())
