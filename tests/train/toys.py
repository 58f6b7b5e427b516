"""Tiny models and texts for the training tests."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from gemmary.config import NANO, Config, Rope
from gemmary.model.modules import TextModule
from gemmary.ops.trainable import Trainable
from gemmary.train.initial import initialise
from gemmary.train.loop import Plan, Trainer
from gemmary.train.optimizer import Learning
from gemmary.train.packing import Document, Rows, pack_rows
from gemmary.train.text_task import TextTask

ROW = 32
TOY = replace(
    NANO, vocab=48, width=32, layers=6, heads=4, kv_heads=2, head_dim=16, ffn=48, window=8, query_scalar=16,
    context=1024, rope_global=Rope(1_000_000.0), vision=None,
)  # fmt: skip


def documents(count: int, longest: int = ROW, vocab: int = TOY.vocab, seed: int = 0) -> list[Document]:
    """Texts with a rule to learn: each id is the one before plus a step that the first id gives."""
    dice = np.random.default_rng(seed)
    found = []
    for length, first in zip(dice.integers(2, longest, count), dice.integers(1, vocab, count), strict=True):
        ids = (first + np.arange(length) * (1 + first % 3)) % vocab
        found.append(Document(ids.tolist(), [1.0] * int(length)))
    return found


def rows(count: int = 60, seed: int = 0) -> Rows:
    """Packed toy texts."""
    return pack_rows(documents(count, seed=seed), ROW)


def model(config: Config = TOY, row: int = ROW, seed: int = 0) -> TextModule:
    """A toy with its first weights."""
    made = TextModule(config, Trainable(row, (None, config.window)))
    initialise(made, seed)
    return made


def plan(steps: int, **changes: object) -> Plan:
    """A short run in float32 without a compiler."""
    usual = Plan(
        steps=steps, rows=4, parts=2, low=False, fuse=False, checkpoint_every=4,
        learning=Learning(peak=1e-2, warmup=2, cooldown=5),
    )  # fmt: skip
    return replace(usual, **changes)


def small(layers: int) -> Config:
    """The toy with that many layers, the last one global."""
    return replace(TOY, layers=layers, global_layers=(layers - 1,))


def trainer(folder: Path, steps: int = 12, layers: int = 6, **changes: object) -> Trainer:
    """A fresh trainer of the toy in `folder`."""
    how = plan(steps, **changes)
    config = TOY if layers == TOY.layers else small(layers)
    return Trainer(TextTask(model(config), rows(), how), how, folder)


class Stopped(Exception):
    """What `stop_at` raises: nothing in the loop expects it."""


def stop_at(trainer: Trainer, batch: int) -> None:
    """Let the run end like a kill, without another word, when batch `batch` is asked for."""
    honest = trainer.task.parts

    def parts(asked: int) -> list[Any]:
        if asked == batch:
            raise Stopped
        return list(honest(asked))

    trainer.task.parts = parts  # type: ignore[method-assign]


def records(folder: Path) -> list[dict[str, Any]]:
    """The lines of the log."""
    return [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def log(folder: Path) -> list[tuple[int, str, str]]:
    """Step, loss and gradient norm of every line, bit for bit."""
    return [(r["step"], float(r["loss"]).hex(), float(r["norm"]).hex()) for r in records(folder)]


def notes(folder: Path) -> list[tuple[int, list[str]]]:
    """Where the run went on after stepping back, and why it had."""
    return [(r["step"], r["stepped_back"]) for r in records(folder) if "stepped_back" in r]
