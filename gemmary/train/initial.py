"""The weights that training begins with."""

from __future__ import annotations

import torch

from ..model.modules import TextModule


@torch.no_grad()
def initialise(model: TextModule, seed: int) -> None:
    """Matrices N(0, 1 / fan-in), norms 0 (a gain of 1).

    The table counts as a matrix: scaled by sqrt(width), embeddings have unit variance; as the head it gives
    logits of unit variance, so that the first loss is about ln V + 1/2.
    """
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5, generator=generator)
        else:
            torch.nn.init.zeros_(parameter)
