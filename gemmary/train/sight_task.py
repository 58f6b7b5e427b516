"""Learning to speak of pictures: next tokens of packed rows that show some (Gemma 3 report, 2.2).

`Sight` is a decoder with eyes. With a tower as eyes, pictures are pixels and all three parts learn: this is
the fine-tuning of the encoder "on data from visual assistant tasks". With a projector as eyes, pictures are
pooled features that a frozen tower made before (feature_cache.py): projector and decoder learn.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import distributed, nn
from torch.distributed.fsdp import FSDPModule

from ..inputs.prompt import brightness
from ..model.modules import TextModule
from ..model.vision_modules import ProjectorModule, TowerModule
from ..ops.contract import Floats, Ints, Step
from .batches import Batches
from .data.rows import PackedShards
from .objective import Objective
from .packing import Rows
from .pictures import Pictures
from .task import Lesson, recorded

if TYPE_CHECKING:
    from .loop import Plan

Tensor = torch.Tensor
PORTION = 4  # pictures that go through a tower at a time: a compiled layer wants always the same shape


class Sight(nn.Module):
    """A decoder and what makes soft tokens for it. Its forward pass is the loss."""

    def __init__(self, text: TextModule, eyes: TowerModule | ProjectorModule, z: float = 0.0) -> None:
        super().__init__()
        self.text, self.eyes = text, eyes
        self.objective = (Objective(text, z=z),)  # hidden from torch, or each parameter had two names

    def soft(self, seen: npt.NDArray[Any]) -> Tensor | None:
        """Soft tokens [n * tokens, width of the text] of what `Pictures.read` gives.

        None of no picture, but where weights are in shards: all processes must give them gradients.
        """
        sharded = isinstance(self, FSDPModule)
        if not (len(seen) or sharded):
            return None
        if isinstance(self.eyes, ProjectorModule):
            device = self.eyes.projection.weight.device
            result: Tensor = self.eyes(torch.as_tensor(seen, device=device).float())
            return result
        portions = -(-len(seen) // PORTION)
        blank = (_most(portions) if sharded else portions) * PORTION - len(seen)
        filled = np.concatenate([seen, np.zeros((blank, *seen.shape[1:]), seen.dtype)])
        parts = [
            self.eyes(brightness(filled[first : first + PORTION])) for first in range(0, len(filled), PORTION)
        ]
        return torch.cat(parts)[: len(seen) * self.eyes.config.tokens]

    def forward(self, step: Step, labels: Ints, weights: Floats, seen: npt.NDArray[Any]) -> Tensor:
        """Summed loss, float32 [], of a step's rows whose pictures are `seen`, in the order of its blocks."""
        result: Tensor = self.objective[0](replace(step, soft=self.soft(seen)), labels, weights)
        return result


def _most(portions: int) -> int:
    """The most portions of any process, which gather the tower's layers together; 1 at least.

    Replicas sum their gradients in the last micro-batch alone: the tower must have a part in it.
    """
    most = torch.tensor(max(1, portions))
    distributed.all_reduce(most, distributed.ReduceOp.MAX)
    return int(most)


class SightTask:
    """Rows with pictures, as `plan` says (rows, parts, seed, low, z); rows without any may be among them.

    `pictures` gives for the numbers in the rows pixels to a tower, pooled features to a projector.
    """

    def __init__(
        self,
        text: TextModule,
        eyes: TowerModule | ProjectorModule,
        data: Rows | PackedShards,
        pictures: Pictures,
        plan: Plan,
    ) -> None:
        self.model, self.pictures, self.low = Sight(text, eyes, plan.z), pictures, plan.low
        self.batches = Batches(data, plan.rows, plan.parts, plan.seed)
        self.identity: dict[str, Any] = {
            "data": self.batches.digest,
            "pictures": pictures.digest,
            "model": recorded(text.config),
            "eyes": recorded(eyes.config),
        }

    @property
    def module(self) -> nn.Module:
        """Decoder and eyes."""
        return self.model

    @property
    def root(self) -> nn.Module:
        """The same: its forward pass is the loss."""
        return self.model

    @property
    def layers(self) -> list[nn.Module]:
        """Those of the decoder, and of the tower where it learns."""
        eyes = self.model.eyes
        return [*self.model.text.layers, *(eyes.layers if isinstance(eyes, TowerModule) else ())]

    def parts(self, step: int) -> list[Rows]:
        """The rows of `step`, in `plan.parts` micro-batches."""
        return self.batches.step(step)

    def loss(self, part: Rows) -> Lesson:
        """The loss summed over the tokens of `part`, by their weights."""
        step, labels, weights = part.step()
        kind = self.model.text.table.weight.device.type
        with torch.autocast(kind, torch.bfloat16, enabled=self.low):
            loss = self.model(step, labels, weights, self.pictures.read(part.shown))
        return Lesson(loss, float(weights.sum()), part.tokens)


@torch.no_grad()
def mean_sight_loss(model: Sight, data: Rows, pictures: Pictures, rows: int = 8) -> float:
    """Mean loss a weighted token in float32, `rows` rows at a time."""
    total = 0.0
    for first in range(0, len(data), rows):
        part = data.take(slice(first, first + rows))
        total += float(model(*part.step(), pictures.read(part.shown)))
    return total / float(data.weights.sum())
