"""Teachers: where the targets of distillation come from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Protocol

import torch

from ..model.modules import TextModule
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
        """One forward pass of the teacher, then logits of `chunk` tokens at a time."""
        step, _, _ = rows.step()
        table = self.model.table.weight
        places = torch.as_tensor(rows.places(), device=table.device)
        with torch.autocast(table.device.type, torch.bfloat16, enabled=self.low):
            h = self.model(step)
            parts = [
                sample((some @ table.T).float(), here, self.how)
                for some, here in zip(h.split(self.chunk), places.split(self.chunk), strict=True)
            ]
        ids, amounts = (torch.cat(column) for column in zip(*parts, strict=True))
        width = int((amounts > 0).any(0).sum())  # columns that somebody uses come first
        return Sampled(ids[:, :width], amounts[:, :width])


def digest_of(model: TextModule) -> str:
    """SHA-256 of a model's config and weights: another teacher has other targets."""
    found = hashlib.sha256(json.dumps(asdict(model.config), sort_keys=True).encode())
    for name, parameter in model.named_parameters():
        found.update(name.encode())
        found.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return found.hexdigest()
