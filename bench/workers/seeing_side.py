"""A model that sees, as a worker of a table.

python seeing_side.py '{"path": "model.gguf"}'
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from serving import serve

import gemmary
from gemmary.engine.host import peak_memory
from gemmary.inputs.crops import PanAndScan
from gemmary.ops.numba.machine import path

CROPS = 4


class Worker:
    """A model and pictures that it has not seen."""

    def __init__(self, path: str) -> None:
        started = time.perf_counter()
        self.model = gemmary.load(path, context=4096)
        self.load_seconds = time.perf_counter() - started
        self.rng = np.random.default_rng(0)

    def about(self) -> dict[str, object]:
        """What was loaded."""
        return {"load_seconds": self.load_seconds, "version": gemmary.__version__, "build": path()}

    def warm(self) -> dict[str, object]:
        """Compile."""
        self._first(self._picture(), "t1")
        return {}

    def look(self) -> dict[str, object]:
        """Seconds to the first token: a new picture, the same in another text, a wide one with crops."""
        picture = self._picture()
        seconds = {"picture": self._first(picture, "t2"), "again": self._first(picture, "t3", before="t4 ")}
        crops = PanAndScan(most=CROPS)
        seconds["pan_and_scan"] = self._first(self._picture(2000), "t5", pan_and_scan=crops)
        return {**seconds, "crops": CROPS, "peak_bytes": peak_memory()}

    def _picture(self, width: int = 900) -> np.ndarray:
        return self.rng.integers(0, 256, (500, width, 3), np.uint8)

    def _first(self, picture: np.ndarray, question: str, before: str = "", **options: Any) -> float:
        content = [
            {"type": "text", "text": before}, {"type": "image", "image": picture},
            {"type": "text", "text": question},
        ]  # fmt: skip
        started = time.perf_counter()
        self.model.chat([{"role": "user", "content": content}], max_tokens=1, temperature=0, **options)
        return time.perf_counter() - started


if __name__ == "__main__":
    serve(Worker)
