"""The root module of training: its forward pass returns the loss.

The loss is made inside `forward`, because it needs the whole table: where a sharding engine keeps only a part
of the root's own parameters on a device, the table is whole just there, for embedding and head alike.
"""

from __future__ import annotations

import torch

from ..model.modules import TextModule
from ..ops.contract import Floats, Ints, Step
from .loss import Target, chunked_cross_entropy, next_token
from .sampling import Distillation, Sampled

Tensor = torch.Tensor


class Objective(torch.nn.Module):
    """A decoder and what it is trained for. Parameters are those of `model`; checkpoints hold `model` alone.

    `distill`: how a teacher's targets count; None to learn the next token only. `z`: weight of the z-loss.
    """

    def __init__(self, model: TextModule, distill: Distillation | None = None, z: float = 0.0) -> None:
        super().__init__()
        self.model, self.distill, self.z = model, distill, z

    def forward(self, step: Step, labels: Ints, weights: Floats, sampled: Sampled | None = None) -> Tensor:
        """Summed loss, float32 [], of a step's R rows: next tokens [R], weights [R], a teacher's targets."""
        if (sampled is None) != (self.distill is None):
            raise ValueError(
                "a teacher's targets need a Distillation and the other way round: give both or neither"
            )
        h: Tensor = self.model(step)
        wanted = torch.as_tensor(labels, device=h.device).long()
        given = None if sampled is None else Sampled(*(part.to(h.device) for part in sampled))
        pulls = targets(wanted, given, self.distill, self.z)
        return chunked_cross_entropy(h, self.model.table.weight, pulls, weights)


def targets(labels: Tensor, sampled: Sampled | None, how: Distillation | None, z: float) -> list[Target]:
    """What the loss needs: of next tokens `labels` int64 [R], a teacher's targets, a z-loss of weight `z`."""
    if sampled is None or how is None:
        return [next_token(labels, labels, z=z)]
    soft = Target(sampled.ids, sampled.amounts, how.temperature, how.share * how.temperature**2)
    rest = 1.0 - how.share
    if how.temperature != 1.0:
        return [next_token(labels, labels, share=rest, z=z), soft] if rest or z else [soft]
    return [Target(*(_mixed(labels[:, None], sampled, how.share) if rest else sampled), z=z)]


def _mixed(label: Tensor, sampled: Sampled, share: float) -> Sampled:
    """One target of both: the label joins its own sample where there is one, so that no id counts twice."""
    ids, amounts = sampled
    same = ((ids == label) & (amounts > 0)).to(amounts.dtype)
    alone = 1.0 - same.sum(-1, keepdim=True)
    both = torch.cat([share * amounts + (1.0 - share) * same, (1.0 - share) * alone], 1)
    return Sampled(torch.cat([ids, label], 1), both)
