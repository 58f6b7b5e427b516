"""A run that only says that it trains: `fake_run.py FOLDER STEPS SECONDS [die | talk]`. It ends at Ctrl-C."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from gemmary.train.about import About
from gemmary.train.interrupt import Interrupt
from gemmary.train.journal import Journal


def run(folder: Path, steps: int, seconds: float, how: str = "") -> None:
    known = About(flops=6e9, peak=989e12)
    with Journal(folder, 0, steps, known) as journal, Interrupt() as interrupt:
        for step in range(1, steps + 1):
            loss = float("nan") if step == 3 else 2 + 8 / step
            journal.write({"step": step, "loss": loss, "norm": 0.5, "rate": 3e-3, "tokens": 4096})
            work(seconds)
            if how == "talk" and step % 5 == 0:
                print(f"note {step}", file=sys.stderr)
            if interrupt.asked:
                break


def work(seconds: float) -> None:
    """Many short calls, as training is: a signal is not noticed within one."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.01)


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), *sys.argv[4:])
