"""SigLIP's loss (arXiv 2303.15343): every pair of a picture and a text is a yes-or-no question of its own.

    loss = -1/B  sum over i, j of  log sigmoid(z_ij (t x_i . y_j + b)),   z_ij = 1 where i = j, else -1

with unit vectors x and y, t = exp(t'), and both t' and b learned: t = 10 and b = -10 at first, so that the
B - 1 wrong texts of a picture do not drown the right one. No softmax, so no device needs all pairs at once:
blocks of texts go round the devices, each with the gradient that it has gathered, and come home complete.
Where a picture has several true texts, or a text several pictures, z is 1 for all of them.

B pictures and texts in all, b on this device, D width of the vectors.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import distributed
from torch.nn.functional import logsigmoid, normalize

Tensor = torch.Tensor
Group = distributed.ProcessGroup
CHUNK = 1024  # pictures whose pairs exist at a time


class SigmoidLoss(torch.nn.Module):
    """The loss with its learned temperature and bias. `group`: the devices that share a batch; None: alone.

    Every device gives as many pairs as every other, and gets the mean over its own pictures. So the average
    over devices of losses, and of gradients as DDP and FSDP take it, is that of the whole batch.
    """

    def __init__(
        self, temperature: float = 10.0, bias: float = -10.0, group: Group | None = None, chunk: int = CHUNK
    ) -> None:
        super().__init__()
        self.log_temperature = torch.nn.Parameter(torch.tensor(math.log(temperature)))
        self.bias = torch.nn.Parameter(torch.tensor(bias))
        self.group, self.chunk = group, chunk

    def forward(self, images: Tensor, texts: Tensor, true: Tensor | None = None) -> Tensor:
        """Mean loss a picture, [], of features of any length, pictures [b, D] and texts [b, D].

        Row i of both belong together; or `true`, bool [b, m], says which of texts [m, D] are true of which
        pictures: of no other device's, so a group takes pairs alone. ValueError: sizes do not fit.
        """
        pairs = (len(images), len(texts))
        if true is None and images.shape != texts.shape:
            raise ValueError(f"pictures {tuple(images.shape)} and texts {tuple(texts.shape)} must be pairs")
        if true is not None and (tuple(true.shape) != pairs or self.group is not None):
            raise ValueError(f"what is true has the shape {tuple(true.shape)}; take {pairs} on one device")
        if self.group is not None:
            _check_sizes(len(images), images.device, self.group)
        kind = images.device.type
        with torch.autocast(kind, enabled=False):  # a sum over all pairs wants float32
            x, y = (normalize(features.to(self.bias.dtype), dim=-1) for features in (images, texts))
            loss: Tensor = _PairLoss.apply(
                x, y, self.log_temperature.exp(), self.bias, true, self.group, self.chunk
            )
        return loss


class _PairLoss(torch.autograd.Function):
    """Gradients are made in the forward pass, while a block of texts is here; backward scales them."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        y: Tensor,
        t: Tensor,
        bias: Tensor,
        true: Tensor | None,
        group: Group | None,
        chunk: int,
    ) -> Tensor:
        devices = 1 if group is None else distributed.get_world_size(group)
        travelling = torch.stack([y, torch.zeros_like(y)])  # texts, and the gradient that goes with them
        x_grad, loss = torch.zeros_like(x), torch.zeros_like(t)
        t_grad, bias_grad = torch.zeros_like(t), torch.zeros_like(bias)
        for hop in range(devices):
            block, block_grad = travelling
            for first in range(0, len(x), chunk):
                here = slice(first, first + chunk)
                cosine = x[here] @ block.T
                sign = torch.full_like(cosine, -1.0)
                if hop == 0:  # the only block with right texts is this device's own
                    _mark(sign, first, true)
                logits = (cosine * t + bias) * sign
                loss -= logsigmoid(logits).sum()
                slope = logits.neg_().sigmoid_().mul_(sign).neg_()
                t_grad += (slope * cosine).sum()
                bias_grad += slope.sum()
                x_grad[here] += t * (slope @ block)
                block_grad += t * (slope.T @ x[here])
            if group is not None and devices > 1:  # also after the last block, which takes it home
                travelling = _passed_on(travelling, group)
        found = (x_grad, travelling[1], t_grad, bias_grad)
        ctx.save_for_backward(*(gradient / len(x) for gradient in found))
        return loss / len(x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        return (*(gradient * outer[0] for gradient in ctx.saved_tensors), None, None, None)


def _mark(sign: Tensor, first: int, true: Tensor | None) -> None:
    """Put 1 where the pictures from number `first` on and the texts belong together."""
    if true is None:
        sign.diagonal(first).fill_(1.0)
    else:
        sign.masked_fill_(true[first : first + len(sign)], 1.0)


def _check_sizes(size: int, device: torch.device, group: Group) -> None:
    """ValueError, on every device, where one gives another number of pairs: blocks would not fit."""
    both = torch.tensor([size, -size], device=device)
    distributed.all_reduce(both, distributed.ReduceOp.MAX, group)
    most, least = both.tolist()
    if most != -least:
        raise ValueError(f"every device must give as many pairs: one gave {-least}, another {most}")


def _passed_on(block: Tensor, group: Group) -> Tensor:
    """Give a block to the next device of the ring and take that of the one before."""
    rank, devices = distributed.get_rank(group), distributed.get_world_size(group)
    received = torch.empty_like(block)
    to, source = (distributed.get_global_rank(group, (rank + d) % devices) for d in (1, -1))
    send = distributed.P2POp(distributed.isend, block.contiguous(), to, group)
    receive = distributed.P2POp(distributed.irecv, received, source, group)
    for work in distributed.batch_isend_irecv([send, receive]):
        work.wait()
    return received
