"""What the tables share: two engines that take turns on one file, medians, and the JSON at the end."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numba

import gemmary
from gemmary.config import SIZES
from gemmary.engine.host import cpu_model, read_bandwidth
from gemmary.engine.peer import NAME, VARIABLE, llama
from gemmary.engine.worker import Worker, measuring
from gemmary.ops.numba.machine import path, usable_cores
from gemmary.weights.synthetic import Layout, write_random

OURS = "gemmary"
FACE = Path(__file__).with_name("gemmary_face.py")
LAYOUTS = {
    "Q4_0, table F16": Layout("Q4_0", "F16"),
    "Q4_0, table Q8_0": Layout("Q4_0", "Q8_0"),
    "Q8_0": Layout("Q8_0", "Q8_0"),
    "Q4_K_M": Layout("Q4_K_M", "Q6_K"),
}
Sides = dict[str, Worker]


def arguments(about: str, sizes: str, **numbers: int) -> argparse.Namespace:
    """The command line: sizes, and a flag for each number; `make bench` gives none."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("sizes", nargs="*", default=[], choices=[*SIZES, []], metavar="SIZE")
    parser.add_argument(
        "--layout", choices=LAYOUTS, action="append", help="one of them only; may be repeated"
    )
    for name, value in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=value, metavar="N")
    given = parser.parse_args()
    given.sizes = given.sizes or sizes.split()  # argparse holds a default of several against the choices
    return given


def python_of_peer() -> str | None:
    """The Python that has llama.cpp; without one, ours is measured alone."""
    return os.environ.get(VARIABLE)


@contextmanager
def random_file(size: str, layout: Layout) -> Iterator[Path]:
    """A temporary GGUF file of true shapes."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{size}.gguf"
        write_random(file, SIZES[size], layout)
        yield file


@contextmanager
def contestants(file: Path, face: bool = False, **job: int) -> Iterator[Sides]:
    """Both engines with the file loaded and warm. `face`: ours by its public face, else by its runner."""
    work = {"path": str(file), **job}
    with ExitStack() as stack:
        command = [sys.executable, str(FACE), json.dumps(work)]
        sides = {OURS: stack.enter_context(Worker(command, os.environ) if face else measuring(work))}
        if python := python_of_peer():
            sides[NAME] = stack.enter_context(llama(python, work))
        for side in sides.values():
            side.ask("warm")
        yield sides


def interleaved(sides: Sides, rounds: int, task: str, fresh: int = 0, **numbers: int) -> dict[str, float]:
    """Median tokens a second of a task. `fresh`: each round begins with a new text of so many tokens."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            if fresh:
                side.ask("prefill", tokens=fresh)
            done = side.ask(task, **numbers)
            taken[name].append(done["tokens"] / done["seconds"])
    return {name: statistics.median(speeds) for name, speeds in taken.items()}


def memory(sides: Sides) -> dict[str, float]:
    """Peak bytes of each side so far."""
    return {name: side.ask("memory")["peak_bytes"] for name, side in sides.items()}


def ratio(values: dict[str, float]) -> float | None:
    """Ours over the peer's."""
    return values[OURS] / values[NAME] if NAME in values else None


def beside(values: dict[str, float], unit: str = "tok/s") -> str:
    """Values for people: ours, the peer's, the ratio."""
    text = f"{values[OURS]:8.1f} {unit}"
    return text + (f" vs {values[NAME]:7.1f} ({ratio(values):.2f}x)" if NAME in values else " " * 19)


def finish(table: str, rows: list[dict[str, Any]], sides: dict[str, Any]) -> None:
    """Say what ran on what, for people; then everything as one line of JSON. `sides`: what each said."""
    machine = {"cpu": cpu_model(), "threads": usable_cores(), "read_bytes_per_second": read_bandwidth()}
    print(
        f"{machine['cpu']}, {machine['threads']} threads, {machine['read_bytes_per_second'] / 1e9:.1f} GB/s"
    )
    for name, said in sides.items():
        print(f"{name}: {said}")
    found = {
        "table": table, "date": time.strftime("%Y-%m-%d"), "commit": _commit(), "machine": machine,
        "kernels": path(), "gemmary": gemmary.__version__, "numba": numba.__version__,
        "python": sys.version.split()[0], "sides": sides, "rows": rows,
    }  # fmt: skip
    print(json.dumps(found), flush=True)


def said(sides: Sides) -> dict[str, Any]:
    """Versions and builds, as the sides say them."""
    kept = ("version", "build", "threads")
    return {name: {key: side.about[key] for key in kept if key in side.about} for name, side in sides.items()}


def _commit() -> str:
    asked = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    return asked.stdout.strip() or "unknown"
