"""Our loop, as a worker of the training table. It stands still between turns: the data is given out in turns.

python training_side.py '{"job": {"size": "nano", ...}, "muon": 0.0, "folder": "..."}'
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
from packed import Job, packed

from gemmary.config import SIZES
from gemmary.engine.host import peak_memory
from gemmary.model.modules import TextModule
from gemmary.ops.trainable import Trainable
from gemmary.train.initial import initialise
from gemmary.train.loop import Plan, Trainer
from gemmary.train.optimizer import Learning
from gemmary.train.packing import Rows


class Turns:
    """Rows for the loop. Before the first micro-batch beyond a turn it answers and waits for the next one."""

    def __init__(self, rows: Rows, job: Job, log: Path) -> None:
        self.rows, self.job, self.log = rows, job, log
        self.digest = rows.digest
        self.taken, self.left, self.started = 0, 0, 0.0

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, numbers: npt.NDArray[Any]) -> Rows:
        """As `Rows.take`."""
        if self.taken % self.job.parts == 0:
            while not self.left:
                self._answer()
                self.left = json.loads(input())["steps"]
                self.started = time.perf_counter()
            self.left -= 1
        self.taken += 1
        return self.rows.take(numbers)

    def _answer(self) -> None:
        _finished(self.job)
        if self.started:
            records = [json.loads(line) for line in self.log.read_text("utf-8").splitlines()]
            said = {"seconds": time.perf_counter() - self.started, "losses": [r["loss"] for r in records]}
            print(json.dumps(said | {"peak_bytes": _peak(self.job)}), flush=True)


def _finished(job: Job) -> None:
    if job.device == "cuda":
        torch.cuda.synchronize()


def _peak(job: Job) -> int:
    return torch.cuda.max_memory_allocated() if job.device == "cuda" else peak_memory()


def main() -> None:
    """Train until the table has seen enough and ends this process."""
    asked = json.loads(sys.argv[1])
    job, folder = Job(**asked["job"]), Path(asked["folder"])
    config = SIZES[job.size]
    model = TextModule(config, Trainable(job.row, (None, config.window), job.device))
    initialise(model, 0)
    rows = Turns(packed(config, job.row, 4 * job.rows * job.parts), job, folder / "log.jsonl")
    workers = job.threads if job.device == "cpu" else 1
    learning = Learning(peak=1e-3, muon=asked["muon"], warmup=1, cooldown=0)
    plan = Plan(
        steps=10**9,
        rows=job.rows,
        parts=job.parts,
        workers=workers,
        learning=learning,
        checkpoint_every=10**9,
    )
    print(json.dumps({"version": f"torch {torch.__version__}", "build": model.ops.rowwise.name}), flush=True)
    Trainer(model.to(job.device), rows, plan, folder).run()


if __name__ == "__main__":
    main()
