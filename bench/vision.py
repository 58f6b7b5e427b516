"""A picture of 896 x 896 becomes soft tokens, beside transformers in bfloat16 in the same run.

    python bench/vision.py [--rounds 3] [--crops 5]

Weights are random at the true shape: 27 layers, 4,096 patches. Ours are int8, and include pooling and the
projector; the peer's tower has neither. The two take turns, medians are compared, and the last line is JSON.
Without torch and transformers, ours is measured alone.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import sys
from contextlib import ExitStack
from pathlib import Path

from workers.contest import OURS, beside, finish, memory, said

from gemmary.engine.worker import Worker
from gemmary.ops.numba.machine import usable_cores

PEER = "transformers"
WORKERS = Path(__file__).parent / "workers"


def commands() -> dict[str, list[str]]:
    """How the sides are started."""
    found = {OURS: ["picture_side.py", json.dumps({"element": "INT8"})]}
    if all(importlib.util.find_spec(name) for name in ("torch", "transformers")):
        found[PEER] = ["siglip_side.py", json.dumps({"threads": usable_cores()})]
    return {name: [sys.executable, str(WORKERS / script), job] for name, (script, job) in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="a picture to soft tokens")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument(
        "--crops", type=int, default=5, metavar="N", help="pictures at once (0: not measured)"
    )
    given = parser.parse_args()
    with ExitStack() as stack:
        sides = {name: stack.enter_context(Worker(line, os.environ)) for name, line in commands().items()}
        taken: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(given.rounds + 1):
            for name, side in sides.items():
                taken[name].append(side.ask("encode", pictures=1)["seconds"])
        seconds = {name: statistics.median(times[1:]) for name, times in taken.items()}
        crops = sides[OURS].ask("encode", pictures=given.crops)["seconds"] if given.crops else None
        row = {
            "seconds": seconds, "faster": seconds[PEER] / seconds[OURS] if PEER in seconds else None,
            "crops": given.crops, "crops_seconds": crops, "crops_over_one": crops and crops / seconds[OURS],
            "held_bytes": {name: side.about["held_bytes"] for name, side in sides.items()},
            "peak_bytes": memory(sides),
        }  # fmt: skip
        about = said(sides)
    peak = ", ".join(f"{name} {count / 1e6:.0f} MB" for name, count in row["peak_bytes"].items())
    several = f"  {given.crops} at once {crops:.1f} s" if crops else ""
    print(f"one picture {beside(seconds, 's')}{several}  peak {peak}", flush=True)
    finish("vision", [row], about)


if __name__ == "__main__":
    main()
