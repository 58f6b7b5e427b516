"""Next-token loss against the tied table, without ever holding [tokens, V] in memory."""

from __future__ import annotations

from typing import Any

import torch

from ..model.modules import TextModule
from ..ops.contract import Floats, Ints
from .packing import Rows

Tensor = torch.Tensor
CHUNK = 512  # tokens whose logits exist at a time


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Gradients are made in the forward pass, while a chunk's logits exist; the backward pass scales them."""

    @staticmethod
    def forward(
        ctx: Any, h: Tensor, table: Tensor, targets: Tensor, weights: Tensor, dtype: torch.dtype, chunk: int
    ) -> Tensor:
        h_low, table_low = h.to(dtype), table.to(dtype)
        h_grad, table_grad = torch.empty_like(h), torch.zeros_like(table, dtype=torch.float32)
        loss = h.new_zeros((), dtype=torch.float32)
        for first in range(0, len(h), chunk):
            here = slice(first, first + chunk)
            logits = (h_low[here] @ table_low.T).float()
            lse = logits.logsumexp(-1, keepdim=True)
            target = targets[here, None]
            loss += ((lse - logits.gather(1, target))[:, 0] * weights[here]).sum()
            slope = logits.sub_(lse).exp_()  # softmax, in the logits' memory
            slope.scatter_add_(1, target, torch.full_like(lse, -1.0))
            low = slope.mul_(weights[here, None]).to(dtype)
            h_grad[here] = (low @ table_low).to(h.dtype)
            table_grad += low.T @ h_low[here]
        ctx.save_for_backward(h_grad, table_grad)
        return loss

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        h_grad, table_grad = ctx.saved_tensors
        return h_grad * outer[0], table_grad * outer[0], None, None, None, None


def cross_entropy(h: Tensor, table: Tensor, targets: Ints, weights: Floats, chunk: int = CHUNK) -> Tensor:
    """Sum over tokens of weight * -log softmax(h table^T)[target], float32 [].

    h [R, D], table [V, D], targets and weights [R]. A sum, not a mean: the caller divides by the weights of
    the whole step, however it is cut into micro-batches. Matrices are multiplied in the dtype of autocast
    where that is on; logits and loss are float32. Memory: one chunk of logits and the two gradients.
    """
    kind = h.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else h.dtype
    ids = torch.as_tensor(targets, device=h.device).long()
    amounts = torch.as_tensor(weights, device=h.device)
    result: Tensor = _ChunkedCrossEntropy.apply(h, table, ids, amounts, dtype, chunk)
    return result


@torch.no_grad()
def mean_loss(model: TextModule, data: Rows, rows: int = 8) -> float:
    """Mean loss a weighted token in float32, `rows` rows at a time; its exponential is the perplexity."""
    total = 0.0
    for first in range(0, len(data), rows):
        step, targets, weights = data.take(slice(first, first + rows)).step()
        total += cross_entropy(model(step), model.table.weight, targets, weights).item()
    return total / float(data.weights.sum())
