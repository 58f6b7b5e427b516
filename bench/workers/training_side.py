"""Our loop, as a worker of the training table. It stands still between turns: micro-batches come in turns.

python training_side.py '{"job": {"size": "nano", ...}, "muon": 0.0, "folder": "..."}'
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

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
from gemmary.train.text_task import TextTask


class Turns(TextTask):
    """Before the first micro-batch beyond a turn it answers, and waits for the next turn."""

    def begin(self, log: Path) -> None:
        """From now on, wait; losses are read from the log."""
        self.log, self.left, self.started = log, 0, 0.0

    def parts(self, step: int) -> list[Rows]:
        """As `TextTask.parts`."""
        if hasattr(self, "log"):
            self._wait()
        return super().parts(step)

    def _wait(self) -> None:
        while not self.left:
            if self.started:
                print(json.dumps(self._done()), flush=True)
            self.left = json.loads(input())["steps"]
            self.started = time.perf_counter()
        self.left -= 1

    def _done(self) -> dict[str, object]:
        cuda = next(self.model.parameters()).is_cuda
        if cuda:
            torch.cuda.synchronize()
        seconds = time.perf_counter() - self.started
        losses = [json.loads(line)["loss"] for line in self.log.read_text("utf-8").splitlines()]
        peak = torch.cuda.max_memory_allocated() if cuda else peak_memory()
        return {"seconds": seconds, "losses": losses, "peak_bytes": peak}


def main() -> None:
    """Train until the table has seen enough and ends this process."""
    asked = json.loads(sys.argv[1])
    job, folder = Job(**asked["job"]), Path(asked["folder"])
    config = SIZES[job.size]
    model = TextModule(config, Trainable(job.row, (None, config.window), job.device))
    initialise(model, 0)
    learning = Learning(peak=1e-3, muon=asked["muon"], warmup=1, cooldown=0)
    plan = Plan(
        steps=10**9, rows=job.rows, parts=job.parts, workers=job.threads, learning=learning,
        checkpoint_every=10**9,
    )  # fmt: skip
    task = Turns(model.to(job.device), packed(config, job.row, 4 * job.rows * job.parts), plan)
    trainer = Trainer(task, plan, folder)
    print(json.dumps({"version": f"torch {torch.__version__}", "build": model.ops.rowwise.name}), flush=True)
    task.begin(folder / "log.jsonl")
    trainer.run()


if __name__ == "__main__":
    main()
