"""The one training loop."""

from __future__ import annotations

import math
import sys
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..errors import GemmaryError
from . import checkpoint, sharded_checkpoint, snapshot
from .about import about
from .clipping import clip
from .company import Company
from .ema import Average
from .gradients import Gradients, gradients_for
from .heap import tidy
from .interrupt import Interrupt
from .journal import Journal, NoJournal
from .layers import prepared
from .lock import locked
from .optimizer import Learning, optimizers, update
from .sampling import Distillation
from .sharded import ShardedGradients, check_shards
from .sharded_checkpoint import ShardedWriter
from .spike import SpikeGuard, Spikes
from .task import Task
from .writer import Writer

ADVICE = "a lower learning rate may help, in another folder"


class DivergedError(GemmaryError):
    """Loss or gradients were not finite for many steps, or the loss jumped."""


@dataclass(frozen=True)
class Plan:
    """How to train: `steps` updates, each of `parts` micro-batches of `rows` rows.

    On a CPU, `workers` threads work on micro-batches. `clip` bounds the norm of the gradient.
    `low` multiplies matrices in bfloat16; parameters stay float32. `fuse` compiles each layer and needs a C++
    compiler; `recompute` runs it again in the backward pass, for memory. `ema`: decay of the average of
    weights, 0 for none. The last `keep` checkpoints stay; `background` writes them beside the training.
    After `patience` steps in a row that are not finite, or a spike, if `spikes` says what that is, the run
    steps back; without `spikes` it gives up. `distill`: how to learn from a teacher. `z`: weight of the
    z-loss, 0 for none. `shards`: processes that share the weights; all of them by default (`mesh_of`).
    """

    steps: int
    rows: int = 4
    parts: int = 2
    workers: int = 2
    learning: Learning = field(default_factory=Learning)
    clip: float = 1.0
    low: bool = True
    fuse: bool = True
    recompute: bool = False
    ema: float = 0.0
    checkpoint_every: int = 50
    keep: int = 2
    background: bool = False
    patience: int = 10
    spikes: Spikes | None = None
    seed: int = 0
    distill: Distillation | None = None
    z: float = 0.0
    shards: int | None = None


class Trainer:
    """A task in training. `folder` gets log.jsonl and checkpoints; a run that was cut goes on exactly.

    `gradients`: how they are made; by default as suits the device that the parameters are on, and sharded
    over the processes of `company` where there are several.
    """

    def __init__(
        self,
        task: Task,
        plan: Plan,
        folder: Path,
        gradients: Gradients | None = None,
        company: Company | None = None,
    ) -> None:
        self.task, self.plan, self.folder = task, plan, folder
        self.company = company or Company()
        self.gradients = gradients or _gradients(task, plan, self.company)  # shards come before optimizers
        self.optimizers = optimizers(task.module, plan.learning)
        self.parameters = list(task.module.parameters())
        self.average = Average(task.module, plan.ema)
        self.guard = SpikeGuard(plan.spikes)
        self.step = 0
        self.saved = -1  # the step of the newest checkpoint
        self.skipped = 0
        self.note: dict[str, Any] = {}  # of what happened between two steps, for the next line of the log
        self.identity = {"plan": _lasting(plan), **task.identity}
        self.about = about(task.module, plan, self.identity, task.parts(0))

    def run(self) -> bool:
        """Train from the last checkpoint; True at the end of the plan, False if interrupted before.

        GemmaryError: the folder is another run's, in use, damaged or full. DivergedError: the loss is not
        finite, or too high, and stepping back does not help or is not planned.
        """
        with locked(self.folder) if self.company.lead else nullcontext(), self._writer() as writer:
            self._resume(writer)
            with (
                prepared(self.task.layers, self.plan.recompute, self.plan.fuse),
                self._journal() as journal,
                self.gradients,
                Interrupt() as interrupt,
            ):
                while self._unfinished(interrupt):
                    try:
                        self._go_on(writer, journal, interrupt)
                    except DivergedError as trouble:
                        journal.back(*self._step_back(writer, trouble))
            if self.step != self.saved:
                self._save(writer)
        return self.step >= self.plan.steps

    def averaged(self) -> dict[str, torch.Tensor]:
        """The averaged weights by parameter name, for `load_state_dict`; without `Plan.ema` the last ones."""
        return self.average.weights()

    def _unfinished(self, interrupt: Interrupt) -> bool:
        """Processes stop at the same step. LostWorkerError: one is gone."""
        self.company.meet()
        return self.step < self.plan.steps and not self.company.any(interrupt.asked)

    def _go_on(
        self, writer: Writer | ShardedWriter, journal: Journal | NoJournal, interrupt: Interrupt
    ) -> None:
        while self._unfinished(interrupt):
            journal.write(self._advance())
            if self.step % self.plan.checkpoint_every == 0:
                self._save(writer)

    def _journal(self) -> Journal | NoJournal:
        if not self.company.lead:
            return NoJournal()
        return Journal(self.folder, self.step, self.plan.steps, self.about)

    def _advance(self) -> dict[str, Any]:
        """One update. Every token counts the same, however the step is cut into micro-batches."""
        sums = self.gradients.accumulate(self.task.parts(self.step + self.guard.leap))
        loss = sums.loss / sums.weight if sums.weight else math.nan
        norm = clip(self.parameters, self.plan.clip)
        rate = self.plan.learning.rate(self.step, self.plan.steps)
        if self._sound(loss, norm):
            update(self.optimizers, rate)
            self.average.update(self.step)
        self.step += 1
        tidy(self.step)
        note, self.note = self.note, {}
        return {"step": self.step, "loss": loss, "norm": norm, "rate": rate, "tokens": sums.tokens, **note}

    def _sound(self, loss: float, norm: float) -> bool:
        """Whether the step may change weights; one infinite gradient would poison them all."""
        if fault := self.guard.fault(loss):
            raise DivergedError(f"step {self.step + 1}: {fault}; {ADVICE}")
        finite = math.isfinite(loss) and math.isfinite(norm)
        self.skipped = 0 if finite else self.skipped + 1
        if self.skipped >= self.plan.patience:
            raise DivergedError(
                f"step {self.step + 1}: loss or gradients were not finite for {self.skipped} steps; {ADVICE}"
            )
        return finite

    def _step_back(self, writer: Writer | ShardedWriter, trouble: DivergedError) -> tuple[int, str]:
        """Go on from an earlier checkpoint with data that comes after the bad steps, or raise `trouble`.

        The checkpoint's step, and why.
        """
        writer.wait()
        target = self.guard.target(self.step, self.plan.checkpoint_every)
        if target is None:
            raise trouble
        found = self._load(max(target, checkpoint.oldest(self.folder)))
        if found is None:
            raise trouble
        if self.company.lead:
            checkpoint.drop_after(self.folder, found.step)
        why = str(trouble).removesuffix(f"; {ADVICE}")
        said = self.guard.step_back(self.step, found.step, found.state, why)
        if self.company.lead:
            print(said[-1], file=sys.stderr)
        self.note = {"stepped_back": said}
        self._restore(found)
        return found.step, said[-1]

    def _writer(self) -> Writer | ShardedWriter:
        plan = self.plan
        keep = max(plan.keep, plan.spikes.kept(plan.checkpoint_every) if plan.spikes else 0)
        if self.company.size > 1:
            return ShardedWriter(self.folder, keep, plan.checkpoint_every, plan.background, self.company)
        return Writer(self.folder, keep, plan.checkpoint_every, plan.background)

    def _load(self, upto: float = math.inf) -> checkpoint.Checkpoint | None:
        if self.company.size > 1:
            return sharded_checkpoint.load_latest(self.folder, self.task.module, self.company, upto=upto)
        return checkpoint.load_latest(self.folder, upto=upto)

    def _save(self, writer: Writer | ShardedWriter) -> None:
        state = {"skipped": self.skipped, **self.guard.state(), **self.identity}
        tensors = snapshot.take(self.task.module, self.optimizers, self.average)
        writer.save(checkpoint.Checkpoint(self.step, tensors, state))
        self.saved = self.step

    def _resume(self, writer: Writer | ShardedWriter) -> None:
        found = self._load()
        if found is not None:
            check_same(self.folder, found.state, self.identity)
            self._restore(found)
            self.guard.restore(found.state)
        elif self.plan.spikes:
            self._save(writer)  # something to step back to, from the first steps too

    def _restore(self, found: checkpoint.Checkpoint) -> None:
        snapshot.restore(self.task.module, self.optimizers, self.average, found.tensors)
        self.step = self.saved = found.step
        self.skipped = found.state["skipped"]


def check_same(folder: Path, state: dict[str, Any], identity: dict[str, Any]) -> None:
    """GemmaryError: the checkpoint in `folder` with this state belongs to another plan, model, ..."""
    for name, now in identity.items():
        before = state.get(name, now)  # one from before it was recorded goes on
        if before != now:
            what = f"another {name}{_difference(before, now)}"
            raise GemmaryError(f"{folder} was trained with {what}; use another folder")


def _gradients(task: Task, plan: Plan, company: Company) -> Gradients:
    check_shards(company, plan.shards)
    if company.size > 1:
        return ShardedGradients(task, company, plan.low, plan.shards)
    return gradients_for(task, plan.workers)


def _lasting(plan: Plan) -> dict[str, Any]:
    """What must not change within a run, as JSON: all but its length and what changes no bit."""
    values = asdict(plan)
    habits = ["steps", "keep", "recompute", "background", "shards"]
    if plan.spikes is None:  # else they say where a run goes back to, and when
        habits += ["checkpoint_every", "patience"]
    for name in habits:
        del values[name]
    values["learning"]["betas"] = list(plan.learning.betas)
    for name in ("distill", "z", "ema", "spikes"):  # a run from before there were such options goes on
        if not values[name]:
            del values[name]
    return values


def _difference(before: Any, now: Any) -> str:
    """Which values of two records differ, in brackets."""
    if not isinstance(before, dict) or not isinstance(now, dict):
        return ""
    return f" ({', '.join(sorted(name for name in before | now if before.get(name) != now.get(name)))})"
