"""Updates of a model from the same packed tokens, beside transformers in the same run.

    python bench/training.py [--turns 4] [--steps 2]

With CUDA: the shape of 1B in rows of 4,096 tokens, against transformers with SDPA and FlexAttention,
compiled, and with Liger's kernels where they are installed; one side after the other, as both do not fit.
Without: nano in rows of 512 on this machine's cores, sides in turns. All train float32 weights under
bfloat16 autocast with AdamW from the same first weights; ours also with Muon, its default. The last line is
JSON. MFU: 6 operations a parameter and token, 12 * heads * width a key that is seen, over 989 TFLOP/s.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from workers.contest import finish, said
from workers.packed import Job, lengths, packed

from gemmary.config import SIZES
from gemmary.engine.worker import Worker
from gemmary.ops.numba.machine import usable_cores
from gemmary.train import flops

WORKERS = Path(__file__).parent / "workers"
OURS = "gemmary, AdamW"
Measured = dict[str, list[dict[str, Any]]]


def sides(job: Job) -> dict[str, tuple[str, dict[str, Any]]]:
    """Who takes part: the script and the rest of its job."""
    found = {OURS: ("training_side.py", {"muon": 0.0}), "gemmary, Muon": ("training_side.py", {"muon": 2.0})}
    usual = {"attention": "sdpa", "fuse": True, "liger": False}
    theirs: dict[str, dict[str, Any]] = {"transformers, SDPA, compiled": usual}
    if job.device == "cuda":
        theirs["transformers, Flex, compiled"] = usual | {"attention": "flex_attention"}
        if importlib.util.find_spec("liger_kernel"):
            theirs |= {f"{name}, Liger": how | {"liger": True} for name, how in list(theirs.items())}
    else:
        theirs["transformers, SDPA"] = usual | {"fuse": False}
    return found | {name: ("transformers_training.py", how) for name, how in theirs.items()}


@contextmanager
def started(job: Job, name: str) -> Iterator[Worker]:
    """A side, compiled and warm after two updates."""
    script, rest = sides(job)[name]
    with tempfile.TemporaryDirectory() as folder:
        mine = {"folder": folder} if script == "training_side.py" else {}
        work = json.dumps({"job": asdict(job), **rest, **mine})
        with Worker([sys.executable, str(WORKERS / script), work], os.environ) as side:
            side.ask("train", steps=2)
            yield side


def in_turns(job: Job, turns: int, steps: int) -> tuple[Measured, dict[str, Any]]:
    """All sides at once, each `turns` times `steps` updates; what they said of themselves."""
    with ExitStack() as stack:
        all_sides = {name: stack.enter_context(started(job, name)) for name in sides(job)}
        found: Measured = {name: [] for name in all_sides}
        for _ in range(turns):
            for name, side in all_sides.items():
                found[name].append(side.ask("train", steps=steps))
        return found, said(all_sides)


def one_by_one(job: Job, turns: int, steps: int) -> tuple[Measured, dict[str, Any]]:
    """Each side alone, as long; what they said of themselves."""
    found: Measured = {}
    about: dict[str, Any] = {}
    for name in sides(job):
        with started(job, name) as side:
            found[name] = [side.ask("train", steps=steps) for _ in range(turns)]
            about |= said({name: side})
    return found, about


def table(job: Job, found: Measured, steps: int) -> list[dict[str, Any]]:
    """A row a side: tokens a second, MFU on a GPU, peak memory, and the loss of the first update."""
    rows = packed(SIZES[job.size], job.row, 4 * job.rows * job.parts)
    each = flops.text(SIZES[job.size], lengths(rows)) / rows.tokens
    peak = flops.peak(torch.device(job.device))
    tokens = steps * job.row * job.rows * job.parts * rows.tokens / rows.ids.size
    speeds = {
        name: tokens / statistics.median(turn["seconds"] for turn in all_turns)
        for name, all_turns in found.items()
    }
    return [
        {
            "side": name, "tokens_per_second": speed, "ours_over_it": speeds[OURS] / speed,
            "mfu": speed * each / peak if peak else None,
            "peak_bytes": found[name][-1]["peak_bytes"], "first_loss": found[name][0]["losses"][0],
        }
        for name, speed in speeds.items()
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="training, beside transformers")
    parser.add_argument("--turns", type=int, default=4, metavar="N")
    parser.add_argument("--steps", type=int, default=2, metavar="N", help="updates a turn")
    given = parser.parse_args()
    if cuda := torch.cuda.is_available():
        job = Job("1b", row=4096, rows=2, parts=4, device="cuda", threads=1)
    else:
        job = Job("nano", row=512, rows=4, parts=2, device="cpu", threads=min(2, usable_cores()))
    found, about = (one_by_one if cuda else in_turns)(job, given.turns, given.steps)
    rows = table(job, found, given.steps)
    for row in rows:
        share = f"  MFU {row['mfu']:.1%}" if row["mfu"] else ""
        ours = f"ours is {row['ours_over_it']:.2f}x{share}"
        held = f"peak {row['peak_bytes'] / 1e9:.2f} GB  first loss {row['first_loss']:.3f}"
        print(f"{row['side']:32} {row['tokens_per_second']:9.0f} tok/s  {ours}  {held}")
    finish("training", [{"job": asdict(job), **row} for row in rows], about)


if __name__ == "__main__":
    main()
