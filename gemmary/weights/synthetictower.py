"""Random towers, sharp enough that a mistake or a coarse format shows.

Patches look at few others, norms have gains and biases of their own, positions weigh as much as pixels. With
`outliers` 8 channels behind every norm are 60 times the others, as in real transformers: a format with one
scale for a whole row drowns the rest in rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..config import VisionConfig
from ..formats import FORMATS
from .canonical import Tensors
from .tensor import Floats, Tensor
from .vision import SOFT_NORM, VisionCheckpoint
from .visionnames import vision_shapes

OUTLIERS = 8  # channels
STRENGTH = 60.0
TEXT_WIDTH = 2560  # of 4B
SHARP = 1.5  # standard deviation of queries and keys
_EMBEDDING = 0.7  # standard deviation of patches and of positions; of pixels it is about 0.5
_BEHIND_NORM = ("q", "k", "v", "fc1", "projection")


class RandomVision(Tensors):
    """Random tensors of tower and projector by our names, the same at each look-up."""

    def __init__(self, config: VisionConfig, text_width: int, seed: int, outliers: bool, format: str) -> None:
        self._shapes = vision_shapes(config, text_width)
        self._order = {name: index for index, name in enumerate(self._shapes)}
        self._seed = seed
        self._width = config.width
        self._outliers = outliers
        self._format = format

    def __getitem__(self, name: str) -> Tensor:
        form = FORMATS["F32" if len(self._shapes[name]) == 1 else self._format]
        return Tensor.pack(name, self._values(name), form, 1.0 if name == SOFT_NORM else 0.0)

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)

    @property
    def nbytes(self) -> int:
        return sum(
            math.prod(shape[:-1]) * FORMATS["F32" if len(shape) == 1 else self._format].row_bytes(shape[-1])
            for shape in self._shapes.values()
        )

    def _values(self, name: str) -> Floats:
        rng = np.random.default_rng([self._seed, self._order[name]])
        random: Floats = rng.standard_normal(self._shapes[name], np.float32)
        part = name.removesuffix(".bias").rpartition(".")[2]
        if part.endswith("norm"):
            return self._norm(random, name)
        if name.endswith(".bias"):
            return random * np.float32(0.1)
        return random * np.float32(self._spread(part, random.shape[1]))

    def _norm(self, random: Floats, name: str) -> Floats:
        """Gains about 1, biases about 0; soft_norm is stored without its 1."""
        bias = name.endswith(".bias")
        values = random * np.float32(0.1 if bias else 0.3) + np.float32(0 if bias else 1)
        if self._outliers and name.removesuffix(".bias") != "norm":
            planted = self._channels()
            values[planted] = values[planted] * np.float32(STRENGTH) if bias else np.float32(STRENGTH)
        return values - np.float32(1) if name == SOFT_NORM else values

    def _channels(self) -> np.ndarray:
        """Where the outliers are: the same channels behind every norm."""
        return np.random.default_rng([self._seed, len(self._order)]).permutation(self._width)[:OUTLIERS]

    def _spread(self, part: str, columns: int) -> float:
        """Standard deviation of a matrix: what comes out is about 1 for any width, outliers or not."""
        if part == "positions":
            return _EMBEDDING
        planted = OUTLIERS * (STRENGTH**2 - 1) if self._outliers and part in _BEHIND_NORM else 0.0
        scale = {"patch": 2 * _EMBEDDING, "q": SHARP, "k": SHARP}.get(part, 1.0)
        return scale / math.sqrt(columns + planted)


def synthetic_tower(
    config: VisionConfig,
    seed: int = 0,
    outliers: bool = False,
    text_width: int = TEXT_WIDTH,
    format: str = "F16",
) -> VisionCheckpoint:
    """A random tower. `format`: of its matrices, F32, F16 or BF16; the same seed gives the same tower."""
    tensors = RandomVision(config, text_width, seed, outliers, format)
    return VisionCheckpoint(Path("random tower"), config, tensors, text_width, tensors.nbytes)
