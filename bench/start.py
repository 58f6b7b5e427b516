"""From the start of the process to the first token, with a warm disk, beside llama.cpp in the same run.

    GEMMARY_LLAMA_PYTHON=python-with-llama-cpp python bench/start.py [270m 1b]

Ours is `gemmary chat FILE -p hi`; the peer is a script of a few lines over llama-cpp-python. Each start is a
new process; the first of either, which compiles and warms the disk, is not counted. The last line is JSON.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from workers.contest import LAYOUTS, NAME, OURS, arguments, beside, finish, python_of_peer, random_file

from gemmary.engine.peer import environment

LAYOUT = "Q4_0, table Q8_0"
RUN = "from gemmary.cli import main; main()"
WORKERS = Path(__file__).parent / "workers"


def first_token(command: list[str]) -> dict[str, float]:
    """Seconds until a process says its first word, and the most bytes that it held."""
    watched = [sys.executable, str(WORKERS / "stopwatch.py"), *command]
    done = subprocess.run(watched, env=environment(), check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


def main() -> None:
    given = arguments("process start to first token", "270m 1b", rounds=5)
    rows: list[dict[str, Any]] = []
    for size in given.sizes:
        with random_file(size, LAYOUTS[LAYOUT]) as file:
            chat = ["chat", str(file), "-p", "hi", "--max-tokens", "1", "--temperature", "0"]
            commands = {OURS: [sys.executable, "-c", RUN, *chat]}
            if python := python_of_peer():
                commands[NAME] = [python, str(WORKERS / "llama_start.py"), str(file), "hi"]
            taken: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
            for _ in range(given.rounds + 1):
                for name, command in commands.items():
                    taken[name].append(first_token(command))
        counted = {name: runs[1:] for name, runs in taken.items()}
        seconds = {name: statistics.median(run["seconds"] for run in runs) for name, runs in counted.items()}
        peak = {name: max(run["peak_bytes"] for run in runs) for name, runs in counted.items()}
        rows.append({"size": size, "seconds": seconds, "peak_bytes": peak})
        held = ", ".join(f"{name} {count / 1e6:.0f} MB" for name, count in peak.items())
        print(f"{size:>5}  {beside(seconds, 's')}  peak {held}", flush=True)
    finish("start", rows, {})


if __name__ == "__main__":
    main()
