"""Decode and prefill beside the peers that are not llama.cpp, in the same run.

    GEMMARY_TRANSFORMERS_PYTHON=python-with-torch GEMMARY_ONNX_PYTHON=python-with-onnxruntime-genai \
    GEMMARY_ONNX_MODEL=folder python bench/peers.py [1b]

transformers computes in bfloat16 with random weights at true shapes. ONNX Runtime GenAI runs a folder that
its model builder wrote (`-p int4 -e cpu`, blocks of 32, accuracy level 4); its file has the table in 4 bits,
too. Ours is Q4_0 with a Q8_0 table, sampling included. A peer whose variable is not set is left out. The last
line is JSON.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from workers.contest import FACE, LAYOUTS, OURS, arguments, finish, interleaved, random_file, said

from gemmary.config import SIZES
from gemmary.engine.peer import environment
from gemmary.engine.worker import Worker
from gemmary.ops.numba.machine import usable_cores

LAYOUT = "Q4_0, table Q8_0"
HERE = Path(__file__).with_name("workers")


def main() -> None:
    given = arguments("decode and prefill beside other peers", "1b", prefill=512, decode=16, rounds=3)
    rows: list[dict[str, Any]] = []
    about: dict[str, Any] = {}
    for size in given.sizes:
        with random_file(size, LAYOUTS[LAYOUT]) as file, ExitStack() as stack:
            sides = {
                name: stack.enter_context(Worker([python, str(script), json.dumps(job)], environment()))
                for name, python, script, job in _sides(size, file)
            }
            about = said(sides)
            for side in sides.values():
                side.ask("warm")
            prefill = interleaved(sides, given.rounds, "prefill", tokens=given.prefill)
            decode = interleaved(sides, given.rounds, "decode", fresh=8, tokens=given.decode)
        rows.append({"size": size, "layout": LAYOUT, "prefill": prefill, "decode": decode})
        for name in sides:
            print(
                f"{size:>5}  {name:<22} prefill {prefill[name]:7.1f} ({prefill[OURS] / prefill[name]:.2f}x)  "
                f"decode {decode[name]:6.1f} ({decode[OURS] / decode[name]:.2f}x)",
                flush=True,
            )
    finish("peers", rows, about)


def _sides(size: str, file: Path) -> list[tuple[str, str, Path, dict[str, Any]]]:
    """Who takes part: name, Python, program, job."""
    found: list[tuple[str, str, Path, dict[str, Any]]] = [(OURS, sys.executable, FACE, {"path": str(file)})]
    if python := os.environ.get("GEMMARY_TRANSFORMERS_PYTHON"):
        job = {"config": _config(size), "threads": usable_cores()}
        found.append(("transformers bf16", python, HERE / "transformers_side.py", job))
    if python := os.environ.get("GEMMARY_ONNX_PYTHON"):
        job = {"folder": os.environ["GEMMARY_ONNX_MODEL"]}
        found.append(("ONNX Runtime GenAI int4", python, HERE / "onnx_side.py", job))
    return found


def _config(size: str) -> dict[str, Any]:
    """The names that transformers has for a size."""
    ours = asdict(SIZES[size])
    names = {
        "vocab_size": "vocab", "hidden_size": "width", "num_hidden_layers": "layers",
        "num_attention_heads": "heads", "num_key_value_heads": "kv_heads", "head_dim": "head_dim",
        "intermediate_size": "ffn", "sliding_window": "window", "query_pre_attn_scalar": "query_scalar",
        "max_position_embeddings": "context",
    }  # fmt: skip
    return {theirs: ours[name] for theirs, name in names.items()}


if __name__ == "__main__":
    main()
