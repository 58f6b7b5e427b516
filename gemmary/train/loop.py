"""The one training loop."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..errors import GemmaryError
from . import checkpoint, snapshot
from .gradients import Gradients, gradients_for
from .interrupt import Interrupt
from .journal import Journal
from .lock import locked
from .optimizer import Learning, optimizers, update
from .sampling import Distillation
from .task import Task


class DivergedError(GemmaryError):
    """Loss or gradients were not finite for many steps."""


@dataclass(frozen=True)
class Plan:
    """How to train: `steps` updates, each of `parts` micro-batches of `rows` rows.

    On a CPU, `workers` threads work on micro-batches. `clip` bounds the norm of the gradient.
    `low` multiplies matrices in bfloat16; parameters stay float32. `fuse` compiles each layer and needs a C++
    compiler. After `patience` steps in a row that are not finite, training gives up. `distill`: how to learn
    from a teacher. `z`: weight of the z-loss, 0 for none.
    """

    steps: int
    rows: int = 4
    parts: int = 2
    workers: int = 2
    learning: Learning = field(default_factory=Learning)
    clip: float = 1.0
    low: bool = True
    fuse: bool = True
    checkpoint_every: int = 50
    keep: int = 2
    patience: int = 10
    seed: int = 0
    distill: Distillation | None = None
    z: float = 0.0


class Trainer:
    """A task in training. `folder` gets log.jsonl and checkpoints; a run that was cut goes on exactly.

    `gradients`: how they are made; by default as suits the device that the parameters are on.
    """

    def __init__(self, task: Task, plan: Plan, folder: Path, gradients: Gradients | None = None) -> None:
        self.task, self.plan, self.folder = task, plan, folder
        self.gradients = gradients or gradients_for(task, plan.workers)
        self.optimizers = optimizers(task.module, plan.learning)
        self.parameters = list(task.module.parameters())
        self.step = 0
        self.skipped = 0
        self.identity = {"plan": _lasting(plan), **task.identity}

    def run(self) -> bool:
        """Train from the last checkpoint; True at the end of the plan, False if interrupted before.

        GemmaryError: the folder is another run's, in use, damaged or full. DivergedError: `Plan.patience`.
        """
        with locked(self.folder):
            self._resume()
            self._fuse()
            with (
                Journal(self.folder / "log.jsonl", self.step, self.plan.steps) as journal,
                self.gradients,
                Interrupt() as interrupt,
            ):
                while self.step < self.plan.steps and not interrupt.asked:
                    journal.write(self._advance())
                    if self.step % self.plan.checkpoint_every == 0:
                        self._save()
            if self.step % self.plan.checkpoint_every:
                self._save()
        return self.step >= self.plan.steps

    def _fuse(self) -> None:
        if self.plan.fuse:
            torch._dynamo.config.recompile_limit = 4 * len(self.task.layers)
            for layer in self.task.layers:
                layer.compile(dynamic=False)

    def _advance(self) -> dict[str, Any]:
        """One update. Every token counts the same, however the step is cut into micro-batches."""
        sums = self.gradients.accumulate(self.task.parts(self.step))
        loss = sums.loss / sums.weight if sums.weight else math.nan
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, self.plan.clip))
        rate = self.plan.learning.rate(self.step, self.plan.steps)
        if self._finite(loss, norm):
            update(self.optimizers, rate)
        self.step += 1
        return {"step": self.step, "loss": loss, "norm": norm, "rate": rate, "tokens": sums.tokens}

    def _finite(self, loss: float, norm: float) -> bool:
        """Whether the step may change weights; one infinite gradient would poison them all."""
        finite = math.isfinite(loss) and math.isfinite(norm)
        self.skipped = 0 if finite else self.skipped + 1
        if self.skipped >= self.plan.patience:
            raise DivergedError(
                f"loss or gradients were not finite for {self.skipped} steps up to step {self.step}; "
                "lower the learning rate and go on from the last checkpoint"
            )
        return finite

    def _save(self) -> None:
        state = {"skipped": self.skipped, **self.identity}
        tensors = snapshot.take(self.task.module, self.optimizers)
        checkpoint.save(self.folder, checkpoint.Checkpoint(self.step, tensors, state), self.plan.keep)

    def _resume(self) -> None:
        found = checkpoint.load_latest(self.folder)
        if found is None:
            return
        for name, value in self.identity.items():
            if found.state[name] != value:
                raise GemmaryError(f"{self.folder} was trained with another {name}; use another folder")
        snapshot.restore(self.task.module, self.optimizers, found.tensors)
        self.step, self.skipped = found.step, found.state["skipped"]


def _lasting(plan: Plan) -> dict[str, Any]:
    """What must not change within a run, as JSON gives it back. Its length and habits of saving may."""
    values = asdict(plan)
    for name in ("steps", "checkpoint_every", "keep", "patience"):
        del values[name]
    values["learning"]["betas"] = list(plan.learning.betas)
    for name in ("distill", "z"):  # a run from before there were such options goes on
        if not values[name]:
            del values[name]
    return values
