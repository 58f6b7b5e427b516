"""The one training loop."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..errors import GemmaryError
from ..model.modules import TextModule
from . import checkpoint, snapshot
from .about import about
from .batches import Batches
from .interrupt import Interrupt
from .journal import Journal
from .lock import locked
from .objective import Objective
from .optimizer import Learning, optimizers, update
from .packing import Rows
from .sampling import Distillation
from .teacher import Teacher


class DivergedError(GemmaryError):
    """Loss or gradients were not finite for many steps."""


@dataclass(frozen=True)
class Plan:
    """How to train: `steps` updates, each of `parts` micro-batches of `rows` rows, on `workers` threads.

    A worker computes a micro-batch on one core: cores never wait for each other inside an operation, which on
    a busy machine is several times faster than sharing operations. `clip` bounds the norm of the gradient.
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
    """A model in training. `folder` gets log.jsonl and checkpoints; a run that was cut goes on exactly.

    `teacher` is given if and only if `plan.distill` is, and draws as that says.
    """

    def __init__(
        self, model: TextModule, data: Rows, plan: Plan, folder: Path, teacher: Teacher | None = None
    ) -> None:
        _check_teacher(teacher, plan, model)
        self.model, self.plan, self.folder, self.teacher = model, plan, folder, teacher
        self.objective = Objective(model, plan.distill, plan.z)
        self.batches = Batches(data, plan.rows, plan.parts, plan.seed)
        self.optimizers = optimizers(model, plan.learning)
        self.parameters = list(model.parameters())
        self.step = 0
        self.skipped = 0
        self.identity = {"data": self.batches.digest, "plan": _lasting(plan)}
        if teacher is not None:
            self.identity["teacher"] = teacher.identity

    def run(self) -> bool:
        """Train from the last checkpoint; True at the end of the plan, False if interrupted before.

        GemmaryError: the folder is another run's, in use, damaged or full. DivergedError: `Plan.patience`.
        """
        with locked(self.folder):
            self._resume()
            self._fuse()
            known = about(self.model, self.plan, self.identity, self.batches.step(self.step))
            with (
                Journal(self.folder, self.step, self.plan.steps, known) as journal,
                self._workers() as pool,
                Interrupt() as interrupt,
            ):
                while self.step < self.plan.steps and not interrupt.asked:
                    journal.write(self._advance(pool))
                    if self.step % self.plan.checkpoint_every == 0:
                        self._save()
            if self.step % self.plan.checkpoint_every:
                self._save()
        return self.step >= self.plan.steps

    def _fuse(self) -> None:
        if self.plan.fuse:
            torch._dynamo.config.recompile_limit = 4 * len(self.model.layers)
            for layer in self.model.layers:
                layer.compile(dynamic=False)

    @contextmanager
    def _workers(self) -> Iterator[ThreadPoolExecutor]:
        """Threads whose operations use one core; so does the main thread while they live."""
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with ThreadPoolExecutor(
                self.plan.workers, initializer=torch.set_num_threads, initargs=(1,)
            ) as pool:
                if self.plan.fuse:  # once, by one thread, before two want it
                    pool.submit(self.gradients, self.batches.step(self.step)[0]).result()
                yield pool
        finally:
            torch.set_num_threads(before)

    def gradients(self, rows: Rows) -> tuple[float, float, tuple[torch.Tensor, ...]]:
        """Summed loss, summed weights, and gradients of the summed loss, of one micro-batch."""
        step, labels, weights = rows.step()
        sampled = None if self.teacher is None else self.teacher.sampled(rows)
        kind = self.model.table.weight.device.type
        with torch.autocast(kind, torch.bfloat16, enabled=self.plan.low):
            loss = self.objective(step, labels, weights, sampled)
        return loss.item(), float(weights.sum()), torch.autograd.grad(loss, self.parameters)

    def _advance(self, pool: ThreadPoolExecutor) -> dict[str, Any]:
        """One update. Every token counts the same, however the step is cut into micro-batches."""
        parts = self.batches.step(self.step)
        losses, weights, grads = zip(*pool.map(self.gradients, parts), strict=True)
        total = sum(weights)
        for parameter, *of_parts in zip(self.parameters, *grads, strict=True):
            parameter.grad = sum(of_parts[1:], of_parts[0]) / total
        loss = sum(losses) / total
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, self.plan.clip))
        rate = self.plan.learning.rate(self.step, self.plan.steps)
        if self._finite(loss, norm):
            update(self.optimizers, rate)
        self.step += 1
        tokens = sum(part.tokens for part in parts)
        return {"step": self.step, "loss": loss, "norm": norm, "rate": rate, "tokens": tokens}

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
        tensors = snapshot.take(self.model, self.optimizers)
        checkpoint.save(self.folder, checkpoint.Checkpoint(self.step, tensors, state), self.plan.keep)

    def _resume(self) -> None:
        found = checkpoint.load_latest(self.folder)
        if found is None:
            return
        for name, value in self.identity.items():
            if found.state[name] != value:
                raise GemmaryError(f"{self.folder} was trained with another {name}; use another folder")
        snapshot.restore(self.model, self.optimizers, found.tensors)
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
