"""The footprint of a training step beside what CUDA really allocates, and its time.

    python bench/footprint.py [1b] [--row 4096] [--rows 2] [--parts 2] [--eager]

Random tokens through the real trainer on one GPU, with and without recomputed layers: torch's own record of
the most that was allocated, against `train/step_memory.py`; seconds of a step (the best of those after the
first) against `train/step_time.py` at the utilisation that it assumes. Says so where there is no GPU. The
last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gemmary.config import SIZES, Config
from gemmary.model.modules import TextModule
from gemmary.ops.trainable import Trainable
from gemmary.train.chips import CHIPS
from gemmary.train.footprint import footprint
from gemmary.train.loop import Plan, Trainer
from gemmary.train.packing import Document, Rows, pack_rows
from gemmary.train.split import Split, Work
from gemmary.train.text_task import TextTask

STEPS = 4


def main() -> None:
    given = _arguments()
    if not torch.cuda.is_available():
        print(json.dumps({"bench": "footprint", "rows": [], "why": "there is no CUDA device"}))
        return
    config = SIZES[given.size]
    rows = [_measured(config, given, recompute) for recompute in (True, False)]
    print(json.dumps({"bench": "footprint", "device": torch.cuda.get_device_name(), "rows": rows}))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("size", nargs="?", default="1b", choices=SIZES)
    for name, usual in (("row", 4096), ("rows", 2), ("parts", 2)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--eager", action="store_true", help="do not compile the layers")
    return parser.parse_args()


def _measured(config: Config, given: argparse.Namespace, recompute: bool) -> dict[str, Any]:
    work = Work(given.row, given.rows, given.parts, recompute=recompute)
    name = torch.cuda.get_device_name()
    chip = next((chip for chip in CHIPS.values() if chip.name in name), CHIPS["h100"])
    counted = footprint(config, chip, Split(), work)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    seconds = _trained(config, work, fuse=not given.eager)
    found = torch.cuda.max_memory_allocated()
    ratio = counted.memory.total / found
    row = {
        "size": config.name, "row": work.row, "rows": work.rows, "parts": work.parts, "recompute": recompute,
        "counted_bytes": counted.memory.total, "allocated_bytes": found, "ratio": ratio,
        "counted_seconds": counted.time.total, "seconds": seconds,
    }  # fmt: skip
    how = "recomputed" if recompute else "kept"
    sizes = f"counted {counted.memory.total / 1e9:6.2f} GB, allocated {found / 1e9:6.2f} GB"
    times = f"counted {counted.time.total:.2f} s, took {seconds:.2f} s"
    print(f"{config.name} {how:10}  {sizes}; {times}", flush=True)
    return row


def _trained(config: Config, work: Work, fuse: bool) -> float:
    """Seconds of the fastest step but the first."""
    with torch.device("cuda"):
        model = TextModule(config, Trainable(work.row, (None, config.window), "cuda"))
    plan = Plan(
        steps=STEPS, rows=work.rows, parts=work.parts, low=work.low, recompute=work.recompute, fuse=fuse,
        checkpoint_every=STEPS + 1,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(TextTask(model, _rows(config, work), plan), plan, Path(folder))
        trainer._save = lambda writer: None  # type: ignore[method-assign]  # a disk is not what is measured
        trainer.run()
        lines = (Path(folder) / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return min(json.loads(line)["seconds"] for line in lines[1:])


def _rows(config: Config, work: Work) -> Rows:
    ids = np.random.default_rng(0).integers(1, config.vocab, (work.rows * work.parts, work.row)).tolist()
    return pack_rows([Document(row, [1.0] * work.row) for row in ids], work.row)


if __name__ == "__main__":
    main()
