"""A run from its plan to its files, stage by stage: data, a teacher's targets, training, export.

Every stage leaves its result in the run's folder and is skipped where that is already there. The same plan in
the same folder goes on wherever it was cut; training goes on bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ..config import Config
from ..inputs.tokenizer import Tokenizer
from . import checkpoint
from .company import Company, torchrun
from .data.rows import PackedShards
from .export import check_save, export
from .log import read
from .loop import Trainer
from .runcost import Cost, run_cost, steps_of
from .rundata import check_folder, data_files, opened, packed_rows, run_data
from .runfolder import RunFolder
from .runmodel import Source, check_vocabulary, device, open_source, student, teacher, text_config, trained
from .runplan import RunPlan, TeacherPlan
from .sharded import check_shards
from .tables import PlanError
from .teacher import Teacher
from .teacher_cache import CachedTeacher, write_targets
from .text_task import TextTask
from .voice import Voice

RECENT = 20  # steps whose loss is averaged


@dataclass(frozen=True)
class Result:
    """The files that a run has written, the step that it is at, and whether that is its last."""

    paths: tuple[Path, ...]
    step: int
    done: bool


class Run:
    """`run` does all that is left to do. `out`: the run's folder."""

    def __init__(self, plan: RunPlan, out: Path, voice: Voice) -> None:
        self.plan, self.folder, self.voice = plan, RunFolder(out), voice

    def run(self) -> Result:
        """All stages. GemmaryError: whatever stops it, in a sentence.

        Where torchrun started several processes the first prepares for all, and the model is not written: the
        same run on one process does that, which needs memory for the weights alone.
        """
        self._check()
        with torchrun() as company, self.folder.claimed(self.plan) if company.lead else nullcontext():
            if company.size > 1:  # one process may prepare or export for many
                check_shards(company, self.plan.train.shards)
            if (finished := self._finished()) is not None:
                return finished
            with _first(company):
                shards, vocabulary = run_data(self.plan, self.folder, self._given(), self.voice)
            self._check_teacher(vocabulary)
            return self._train(packed_rows(shards, self.plan.row), vocabulary, company)

    def _finished(self) -> Result | None:
        """What an earlier call has left, if it is all that this one would."""
        record = self.folder.read("export")
        if record is None or {name: record.get(name) for name in self._wanted} != self._wanted:
            return None
        paths = tuple(self.folder.path / name for name in record["paths"])
        if record["step"] < self.plan.train.steps or not all(path.exists() for path in paths):
            return None
        return Result(paths, record["step"], True)

    @property
    def _wanted(self) -> dict[str, Any]:
        """What decides on the end of a run besides its steps."""
        return {"epochs": self.plan.epochs, "save": asdict(self.plan.save)}

    # Before any work

    def cost(self) -> Cost:
        """What the run will take; nothing is written. GemmaryError: what can be seen to stop it."""
        self._check()
        self.folder.check(self.plan)
        data, vocabulary = self._look()
        config = text_config(self.plan, self._origin, vocabulary)
        taught = None if self._teaching is None else self._teaching.checkpoint.config
        return run_cost(self.plan, config, taught, data, device() == "cpu")

    def _look(self) -> tuple[PackedShards | int, int]:
        """The data as it is now, packed, or the bytes of its files; and the size of its vocabulary."""
        ready = self.folder.data if self.plan.data is not None else self.plan.at(self.plan.shards or "")
        given = self._given()
        if self.plan.data is None or (self.folder.read("data") is not None and ready.exists()):
            shards, given = opened(ready, given, f"see {self.plan.path}")
            return packed_rows(shards, self.plan.row), Tokenizer.from_model(given).vocab
        base = self.plan.at(self.plan.folder)
        size = sum(path.stat().st_size for path in set(data_files(self.plan.data, base)))
        if given is not None:
            return size, Tokenizer.from_model(given).vocab
        wanted = self.plan.data.vocabulary
        return size, wanted if isinstance(wanted, int) else Tokenizer.from_model(base / wanted).vocab

    # Models

    @cached_property
    def _origin(self) -> Source | None:
        return None if self.plan.origin is None else open_source(self.plan, self.plan.origin, "model.from")

    @cached_property
    def _teaching(self) -> Source | None:
        wanted = self.plan.teacher
        return None if wanted is None else open_source(self.plan, wanted.model, "teacher.model")

    def _check(self) -> None:
        """What can be known before any work."""
        if self._origin is not None:
            context = self._origin.checkpoint.config.context
            if self.plan.row > context:
                raise PlanError(
                    f"train.row is {self.plan.row:,}, more than the model's context of {context:,}"
                )
            check_save(self.plan.save, self._origin.checkpoint.config)
        elif self.plan.config is not None:
            check_save(self.plan.save, self.plan.config)
        if self._origin is not None and self._teaching is not None:
            check_vocabulary(self._origin.vocabulary, self._teaching, self._origin.checkpoint.path)
        wanted = self.plan.data
        if wanted is not None:
            check_folder(self.plan.at(self.plan.folder))
        if wanted is not None and self.plan.own_vocabulary and isinstance(wanted.vocabulary, str):
            path = self.plan.at(self.plan.folder) / wanted.vocabulary
            Tokenizer.from_model(path)
            if self._teaching is not None:
                check_vocabulary(path.read_bytes(), self._teaching, path)

    def _given(self) -> bytes | None:
        """The vocabulary that the data must have."""
        if self._origin is not None:
            return self._origin.vocabulary
        if self._teaching is not None and not self.plan.own_vocabulary and self.plan.data is not None:
            return self._teaching.vocabulary
        return None

    def _check_teacher(self, vocabulary: bytes) -> None:
        if self._teaching is not None:
            where = self.folder.data if self.plan.shards is None else self.plan.at(self.plan.shards)
            check_vocabulary(vocabulary, self._teaching, where)

    # Training

    def _train(self, data: PackedShards, vocabulary: bytes, company: Company) -> Result:
        steps = steps_of(self.plan, len(data))
        config = text_config(self.plan, self._origin, Tokenizer.from_model(vocabulary).vocab)
        while (found := self._checkpoint(steps, company)) is None:
            step = self._learn(data, config, steps, company)
            if step < steps or company.size > 1:
                return Result((), step, step >= steps)
        return self._export(found, config, vocabulary)

    def _checkpoint(self, steps: int, company: Company) -> Path | None:
        """The end of the training, where one process finds it intact: many would all have to read it."""
        if company.size > 1 or not self.folder.trained(steps):
            return None
        found = checkpoint.latest(self.folder.train)
        return found if found is not None and checkpoint.step_of(found) >= steps else None

    def _learn(self, data: PackedShards, config: Config, steps: int, company: Company) -> int:
        """The step that training came to. What it needs memory for is gone when the model is written."""
        plan = replace(self.plan.train, steps=steps)
        model = student(self.plan, self._origin, config)
        if company.size == 1:  # the shards of many go to their devices later: whole it may not fit there
            model.to(device())
        wanted, source = self.plan.teacher, self._teaching
        with _first(company):
            taught = None if wanted is None or source is None else self._teacher(wanted, source, data, config)
        trainer = Trainer(TextTask(model, data, plan, taught), plan, self.folder.train, company=company)
        self.voice.say(f"Training: {self.folder.train}")
        if trainer.run():
            self.voice.say(f"Trained: {_trained(self.folder.train / 'log.jsonl')}")
        return trainer.step

    def _export(self, found: Path, config: Config, vocabulary: bytes) -> Result:
        with self.voice.doing("Writing the model"):
            model = trained(self.plan, config, found)
            paths = export(model, vocabulary, self._origin, self.plan.save, self.folder, self.voice.say)
        step, names = checkpoint.step_of(found), [path.name for path in paths]
        self.folder.write("export", {"step": step, "paths": names, **self._wanted})
        return Result(tuple(paths), step, True)

    def _teacher(self, wanted: TeacherPlan, source: Source, data: PackedShards, config: Config) -> Teacher:
        online = teacher(self.plan, source, config)
        if not wanted.cache:
            return online
        with self.voice.doing("Drawing the teacher's targets"):
            write_targets(self.folder.targets, online, data, warn=self.voice.say)
        return CachedTeacher(self.folder.targets, wanted.how, data)


@contextmanager
def _first(company: Company) -> Iterator[None]:
    """The first process runs the block before all others, which find what it has left."""
    if not company.lead:
        company.meet()
    yield
    if company.lead:
        company.meet()


def _trained(log: Path) -> str:
    """ "300 steps, 1,228,800 tokens, loss 3.456"."""
    records = read(log).records
    recent = [record["loss"] for record in records[-RECENT:]]
    tokens = sum(record["tokens"] for record in records)
    loss = sum(recent) / max(1, len(recent))
    return (
        f"{len(records):,} steps, {tokens:,} tokens, loss {loss:.3f} (mean of the last {len(recent)} steps)"
    )
