"""The norm of a gradient over all its tensors and all processes that share them, and its bound."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch.distributed.tensor import DTensor


def clip(parameters: Iterable[torch.nn.Parameter], most: float) -> float:
    """Scale the gradients down to a common norm of `most` where it is larger; the norm before."""
    held = list(parameters)
    norm = torch.nn.utils.get_total_norm([p.grad for p in held if p.grad is not None])
    if isinstance(norm, DTensor):  # of the shards here
        norm = norm.full_tensor()
    torch.nn.utils.clip_grads_with_norm_(held, most, norm)
    return norm.item()
