"""Learning text: next tokens, a teacher's targets, or both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..errors import GemmaryError
from ..model.modules import TextModule
from .batches import Batches
from .data.rows import PackedShards
from .objective import Objective
from .packing import Rows
from .task import Lesson, recorded
from .teacher import Teacher

if TYPE_CHECKING:
    from .loop import Plan


class TextTask:
    """A decoder that learns packed rows as `plan` says (rows, parts, seed, low, distill, z).

    `teacher` is given if and only if `plan.distill` is, and draws as that says. GemmaryError: teacher and
    student have other vocabularies.
    """

    def __init__(
        self, model: TextModule, data: Rows | PackedShards, plan: Plan, teacher: Teacher | None = None
    ) -> None:
        _check_teacher(teacher, plan, model)
        self.model, self.teacher, self.low = model, teacher, plan.low
        self.objective = Objective(model, plan.distill, plan.z)
        self.batches = Batches(data, plan.rows, plan.parts, plan.seed)
        self.identity: dict[str, Any] = {"data": self.batches.digest, "model": recorded(model.config)}
        if teacher is not None:
            self.identity["teacher"] = teacher.identity

    @property
    def module(self) -> nn.Module:
        """The decoder."""
        return self.model

    @property
    def root(self) -> nn.Module:
        """Decoder and loss."""
        return self.objective

    @property
    def layers(self) -> Sequence[nn.Module]:
        """Those of the decoder."""
        return list(self.model.layers)

    def parts(self, step: int) -> list[Rows]:
        """The rows of `step`, in `plan.parts` micro-batches."""
        return self.batches.step(step)

    def loss(self, part: Rows) -> Lesson:
        """The loss summed over the tokens of `part`, by their weights."""
        step, labels, weights = part.step()
        sampled = None if self.teacher is None else self.teacher.sampled(part)
        kind = self.model.table.weight.device.type
        with torch.autocast(kind, torch.bfloat16, enabled=self.low):
            loss = self.objective(step, labels, weights, sampled)
        return Lesson(loss, float(weights.sum()), part.tokens)


def _check_teacher(teacher: Teacher | None, plan: Plan, model: TextModule) -> None:
    if (None if teacher is None else teacher.how) != plan.distill:
        raise ValueError(
            "the teacher must draw as Plan.distill says: give both the same Distillation, or neither"
        )
    if teacher is not None and teacher.vocabulary != model.config.vocab:
        raise GemmaryError(
            f"the teacher knows {teacher.vocabulary} ids, the student {model.config.vocab}; "
            "both need the same vocabulary"
        )
