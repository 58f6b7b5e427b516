"""Our tower, as a worker of a table: random weights at the true shape.

python picture_side.py '{"element": "INT8"}'
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from serving import serve

import gemmary
from gemmary.config import VisionConfig
from gemmary.engine.host import peak_memory
from gemmary.formats import FORMATS, encode
from gemmary.model.text import Gain
from gemmary.model.vision import Layer, Tower, attention_of, features
from gemmary.ops.numba.machine import path, team
from gemmary.ops.numba.memory import WeightMemory
from gemmary.ops.numba.table import NumbaOps
from gemmary.ops.numba.tower import pack_linear

TEXT_WIDTH = 2560  # of 4B


class Worker:
    """A tower."""

    def __init__(self, element: str) -> None:
        self.config, self.memory_of_weights, self.element = VisionConfig(), WeightMemory(), element
        self.rng = np.random.default_rng(0)
        self.ops = NumbaOps("F32" if element == "F32" else "F16")
        d, f = self.config.width, self.config.ffn
        self.tower = Tower(
            config=self.config, ops=self.ops, patch=self._linear(d, 3 * self.config.patch**2),
            positions=self.rng.standard_normal((self.config.patches, d), np.float32),
            layers=tuple(self._layer(d, f) for _ in range(self.config.layers)), norm=self._norm(d),
            soft_norm=Gain(np.ones(d, np.float32), 1e-6), projection=self._linear(TEXT_WIDTH, d),
        )  # fmt: skip

    def about(self) -> dict[str, object]:
        """What was made, and the bytes held with it."""
        return {"version": gemmary.__version__, "build": path(), "held_bytes": peak_memory()}

    def encode(self, pictures: int) -> dict[str, object]:
        """Soft tokens of so many pictures."""
        size = self.config.image
        pixels = self.rng.uniform(-1, 1, (pictures, 3, size, size)).astype(np.float32)
        started = time.perf_counter()
        features(self.tower, pixels)
        return {"seconds": time.perf_counter() - started}

    def memory(self) -> dict[str, object]:
        """The most bytes that this process has held."""
        return {"peak_bytes": peak_memory()}

    def _linear(self, rows: int, columns: int) -> Any:
        values = self.rng.standard_normal((rows, columns), np.float32) * np.float32(columns**-0.5)
        raw, bias = encode(FORMATS["BF16"], values).reshape(-1), np.zeros(rows, np.float32)
        return pack_linear(
            team(), self.memory_of_weights, FORMATS["BF16"], raw, rows, columns, bias, self.element
        )

    def _norm(self, width: int) -> Gain:
        return Gain(np.ones(width, np.float32), 1e-6, np.zeros(width, np.float32))

    def _layer(self, d: int, f: int) -> Layer:
        linears = {name: self._linear(d, d) for name in "qkvo"}
        return Layer(
            ops=self.ops, attn_norm=self._norm(d), ffn_norm=self._norm(d), fc1=self._linear(f, d),
            fc2=self._linear(d, f), attention=attention_of(self.config), **linears,
        )  # fmt: skip


if __name__ == "__main__":
    serve(Worker)
