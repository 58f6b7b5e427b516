"""Decode and prefill on this machine's CPU, beside llama.cpp in the same run.

    python bench/cpu.py [270m 1b ...]

llama.cpp takes part where the environment variable GEMMARY_LLAMA_PYTHON names a Python that has
llama-cpp-python, built for this machine. Weights are random at true shapes. The two sides take turns, medians
are compared, and the last line is JSON.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROUNDS = 5
PREFILL, DECODE = 128, 16
LAYOUTS = {"Q4_0, table Q8_0": ("Q4_0", "Q8_0"), "Q4_0, table F16": ("Q4_0", "F16"), "Q8_0": ("Q8_0", "Q8_0")}
HERE = Path(__file__).parent


class Side:
    """One engine in a process of its own."""

    def __init__(self, python: str, worker: str, model: Path) -> None:
        command = [python, str(HERE / "workers" / worker), str(model)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.about = self._read()["about"]

    def seconds(self, task: str, tokens: int) -> float:
        """How long the engine took for a task."""
        if self._process.stdin is None:
            raise RuntimeError("the worker has no input")
        self._process.stdin.write(json.dumps({"do": task, "tokens": tokens}) + "\n")
        self._process.stdin.flush()
        return float(self._read()["seconds"])

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def _read(self) -> dict[str, Any]:
        if self._process.stdout is None or not (line := self._process.stdout.readline()):
            raise RuntimeError("the worker ended early")
        return dict(json.loads(line))


def measure(sides: dict[str, Side]) -> dict[str, dict[str, float]]:
    """Median tokens a second of each side, taking turns; a first round warms up."""
    taken: dict[str, dict[str, list[float]]] = {name: {"prefill": [], "decode": []} for name in sides}
    for round_ in range(ROUNDS + 1):
        for name, side in sides.items():
            for task, tokens in (("prefill", PREFILL), ("decode", DECODE)):
                speed = tokens / side.seconds(task, tokens)
                if round_:
                    taken[name][task].append(speed)
    return {name: {task: statistics.median(v) for task, v in tasks.items()} for name, tasks in taken.items()}


def row(size: str, layout: str, folder: Path) -> dict[str, Any]:
    """One line of the table."""
    body, table = LAYOUTS[layout]
    model = folder / f"{size}-{body}-{table}.gguf"
    subprocess.run(
        [sys.executable, "-m", "bench.workers.random_gguf", model, size, body, table],
        check=True,
        cwd=HERE.parent,
    )
    sides = {"gemmary": Side(sys.executable, "gemmary_cpu.py", model)}
    peer = os.environ.get("GEMMARY_LLAMA_PYTHON")
    if peer:
        sides["llama.cpp"] = Side(peer, "peer_llama.py", model)
    speeds = measure(sides)
    about = {name: side.about for name, side in sides.items()}
    for side in sides.values():
        side.close()
    megabytes = model.stat().st_size / 1e6
    model.unlink()
    return {"size": size, "layout": layout, "MB": round(megabytes), "speeds": speeds, "about": about}


def printed(result: dict[str, Any]) -> str:
    """The line for people."""
    text = f"{result['size']:>5}  {result['layout']:<18} {result['MB']:>5} MB"
    ours, peer = result["speeds"]["gemmary"], result["speeds"].get("llama.cpp")
    for task in ("prefill", "decode"):
        text += f"  {task} {ours[task]:7.1f} tok/s"
        if peer:
            text += f" vs {peer[task]:7.1f} ({ours[task] / peer[task]:.2f}x)"
    return text + f"  {ours['decode'] * result['MB'] / 1e3:.1f} GB/s"


def main() -> None:
    sizes = sys.argv[1:] or ["270m", "1b"]
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            for layout in LAYOUTS:
                results.append(row(size, layout, Path(folder)))
                print(printed(results[-1]), flush=True)
    for about in results[0]["about"].values():
        print(about)
    print(json.dumps({"machine": platform.processor() or platform.machine(), "rows": results}))


if __name__ == "__main__":
    main()
