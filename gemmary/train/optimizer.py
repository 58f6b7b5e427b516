"""What updates the weights, and how fast: Muon for matrices, AdamW for the rest; warm-up, stable, decay."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from .muon import Muon

Optimizer = torch.optim.Optimizer


@dataclass(frozen=True)
class Learning:
    """`peak`: learning rate of AdamW. `muon`: that of Muon as a multiple, 0 for AdamW alone.

    Muon orthogonalises each update (Jordan, 2024), here scaled to AdamW's size (arXiv 2502.16982). `decay` is
    the weight decay of the layers' matrices. `warmup` and `cooldown` count steps: linear up, level, then
    1 - sqrt down to 0. In the level part a run can be made longer or shorter.
    """

    peak: float = 3e-3
    muon: float = 2.0
    decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    warmup: int = 60
    cooldown: int = 800

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of `step` (counted from 0) in a run of `steps`."""
        up = min(1.0, (step + 1) / max(1, self.warmup))
        left = min(1.0, (steps - step) / max(1, self.cooldown))
        return self.peak * up * (1.0 - math.sqrt(1.0 - left))


def optimizers(model: torch.nn.Module, learning: Learning) -> tuple[Optimizer, ...]:
    """Optimizers of all parameters. Matrices are the weights of linear layers; nothing else (norms, tables,
    positions, biases) is decayed, or Muon's.

    Each parameter group has a "share": its learning rate is `Learning.rate` times that.
    """
    matrices = [m.weight for m in model.modules() if isinstance(m, torch.nn.Linear)]
    chosen = set(matrices)
    others = [p for p in model.parameters() if p not in chosen]
    adamw = torch.optim.AdamW(others, betas=learning.betas, eps=1e-10, weight_decay=0.0, fused=True)
    found: tuple[Optimizer, ...] = (adamw,)
    if learning.muon:
        muon = Muon(matrices, weight_decay=learning.decay)
        found = (muon, adamw)
    else:
        adamw.add_param_group({"params": matrices, "weight_decay": learning.decay})
    for optimizer in found:
        for group in optimizer.param_groups:
            group["share"] = 1.0 if optimizer is adamw else learning.muon
    return found


def update(found: tuple[Optimizer, ...], rate: float) -> None:
    """One step of every optimizer at learning rate `rate`."""
    for optimizer in found:
        for group in optimizer.param_groups:
            group["lr"] = rate * group["share"]
        optimizer.step()
