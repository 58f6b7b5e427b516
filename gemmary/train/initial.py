"""The weights that training begins with."""

from __future__ import annotations

import torch
from torch import nn

from ..model.modules import TextModule
from ..model.vision_modules import TowerModule
from .sigmoid_task import SigmoidModel


@torch.no_grad()
def initialise(model: TextModule, seed: int) -> None:
    """Matrices N(0, 1 / fan-in), norms 0 (a gain of 1).

    The table counts as a matrix: scaled by sqrt(width), embeddings have unit variance; as the head it gives
    logits of unit variance, so that the first loss is about ln V + 1/2.
    """
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5, generator=generator)
        else:
            nn.init.zeros_(parameter)


@torch.no_grad()
def initialise_tower(tower: TowerModule, seed: int) -> None:
    """As SigLIP's: matrices LeCun's truncated normal, positions N(0, 1 / width), biases 0, gains 1."""
    generator = torch.Generator().manual_seed(seed)
    _linears(tower, generator)
    nn.init.normal_(tower.positions, std=tower.config.width**-0.5, generator=generator)


@torch.no_grad()
def initialise_sigmoid(model: SigmoidModel, seed: int) -> None:
    """What is not the tower: the text encoder as any decoder, the heads as `initialise_tower` has it."""
    initialise(model.texts.decoder, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    _linears(model.pool, generator)
    _linears(model.texts.out, generator)
    nn.init.normal_(model.pool.probe, generator=generator)


def _linears(module: nn.Module, generator: torch.Generator) -> None:
    for linear in module.modules():
        if isinstance(linear, nn.Linear):
            std = linear.in_features**-0.5
            nn.init.trunc_normal_(linear.weight, std=std, a=-2 * std, b=2 * std, generator=generator)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)
