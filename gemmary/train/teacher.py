"""Teachers: where the targets of distillation come from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Protocol

import torch

from ..model.modules import TextModule
from ..model.vision_modules import TrunkModule
from .packing import Rows
from .sampling import Distillation, Sampled, sample

Tensor = torch.Tensor


class Teacher(Protocol):
    """Where targets come from: how they were drawn, the table they speak of, and whose they are."""

    how: Distillation
    vocabulary: int

    @property
    def identity(self) -> str:
        """A run goes on only with the teacher that it began with."""
        ...

    def sampled(self, rows: Rows) -> Sampled:
        """Targets of the tokens of `rows` that have a weight, in their order."""
        ...


class OnlineTeacher:
    """A teacher that runs beside its student. `low`: matrices are multiplied in bfloat16.

    Its table must have as many rows as the student's: ids mean the same to both.
    """

    def __init__(self, model: TextModule, how: Distillation, low: bool = False, chunk: int = 128) -> None:
        self.model, self.how, self.low, self.chunk = model.eval().requires_grad_(False), how, low, chunk
        self.vocabulary = len(model.table.weight)
        self.digest = digest_of(model)

    @property
    def identity(self) -> str:
        """SHA-256 of config and weights."""
        return self.digest

    @torch.no_grad()
    def sampled(self, rows: Rows) -> Sampled:
        """Row after row, so that a token's target has the same bits whichever rows are beside it."""
        found = [self._of_row(rows.take(slice(row, row + 1))) for row in range(len(rows))]
        ids, amounts = (torch.cat(column) for column in zip(*found, strict=True))
        used = (amounts > 0).any(0).nonzero()  # ids ascend, so what nobody uses may stand in between
        width = int(used[-1]) + 1 if len(used) else 0
        return Sampled(ids[:, :width], amounts[:, :width])

    def _of_row(self, row: Rows) -> Sampled:
        table = self.model.table.weight
        places = torch.as_tensor(row.places(), device=table.device)
        with torch.autocast(table.device.type, torch.bfloat16, enabled=self.low):
            h = self.model(row.step()[0])
            parts = [
                sample((some @ table.T).float(), here, self.how)
                for some, here in zip(h.split(self.chunk), places.split(self.chunk), strict=True)
            ]
        return Sampled(*(torch.cat(column) for column in zip(*parts, strict=True)))


def digest_of(model: TextModule | TrunkModule) -> str:
    """SHA-256 of a model's config and weights: another teacher or tower makes other targets or features."""
    found = hashlib.sha256(json.dumps(asdict(model.config), sort_keys=True).encode())
    for name, parameter in model.named_parameters():
        found.update(name.encode())
        found.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return found.hexdigest()
