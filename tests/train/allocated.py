"""What torch allocates on the CPU while something runs, as its own allocator reports it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch.profiler import ProfilerActivity, profile

from gemmary.config import NANO
from gemmary.train.company import Company
from gemmary.train.gradients import DeviceGradients
from gemmary.train.loop import Plan, Trainer
from gemmary.train.optimizer import Learning
from gemmary.train.packing import Document, pack_rows
from gemmary.train.sharded import ShardedGradients
from gemmary.train.split import Work
from gemmary.train.text_task import TextTask
from tests.train import toys


def peak(work: Callable[[], object]) -> int:
    """Bytes at the worst moment of `work`: every allocation and release, native ones too, of this thread."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        kept = work()
    del kept
    events = record.profiler.kineto_results.events()  # type: ignore[union-attr]
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    return int(np.max(np.cumsum([change for _, change in changes])))


def nano(work: Work, folder: Path, company: Company | None = None) -> Trainer:
    """Two real steps of the nano size, all its states at work. Without a company, micro-batches in turn."""
    company = company or Company()
    dice = np.random.default_rng(0)
    ids = dice.integers(1, NANO.vocab, (16, work.row)).tolist()
    rows = pack_rows([Document(row, [1.0] * work.row) for row in ids], work.row)
    plan = Plan(
        steps=2, rows=work.rows, parts=work.parts * company.size, low=work.low, recompute=work.recompute,
        fuse=False, ema=0.9 * work.ema, learning=replace(Learning(), muon=2.0 * work.muon),
    )  # fmt: skip
    task = TextTask(toys.model(NANO, row=work.row), rows, plan)
    cut = ShardedGradients(task, company, work.low) if company.size > 1 else DeviceGradients(task)
    trainer = Trainer(task, plan, folder, cut, company)
    trainer._save = lambda writer: None  # type: ignore[method-assign]
    trainer.run()
    return trainer
