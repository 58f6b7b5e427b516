"""Documents of a crowded kind step back: inverse-propensity weights by a sketch (Sachdeva et al. 2024).

A document is a point: the random signs of its words, added up. Several hash functions, each a grid in a few
random directions (Datar et al. 2004), count how many points fall into the cell where it falls. The mean of
the counts estimates how dense the documents lie around it. Weights re-weight, they never drop: the smallest
and the largest are at most 16 times apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from .words import Hashes

SIZE = 32  # numbers of an embedding
TABLES, DIRECTIONS = 16, 3  # hash functions, and directions of each
CELL = 6.0  # the side of a cell, in units of the spread of all documents along one axis
CELLS = 1 << 12  # counters of a table; cells share them by chance
RANGE = 4.0  # no weight above it, or below its inverse, times the mean
_BLOCK = 1 << 14  # embeddings at once

Floats = npt.NDArray[np.float32]


def embedding(hashes: Hashes) -> Floats:
    """The unit vector [SIZE] of a document's word hashes; zeros where it has no words."""
    if not len(hashes):
        return np.zeros(SIZE, np.float32)
    distinct, counts = np.unique(hashes, return_counts=True)
    bits = np.unpackbits(distinct.astype("<u8").view(np.uint8).reshape(-1, 8)[:, : SIZE // 8], axis=1)
    total = np.sqrt(counts) @ (bits.astype(np.float64) * 2 - 1)
    return np.asarray(total / (float(np.linalg.norm(total)) or 1.0), np.float32)


def density_weights(
    embeddings: Floats, chosen: npt.NDArray[np.int64], power: float, seed: int
) -> npt.NDArray[np.float64]:
    """Weights [chosen] of the chosen rows of embeddings: mean 1, in proportion to density ** -power.

    Embeddings may be a memory map; they are read in blocks.
    """
    count = len(chosen)
    if not count or not power:
        return np.ones(count)
    rng = np.random.default_rng(seed)
    directions = rng.standard_normal((SIZE, TABLES * DIRECTIONS)) / (CELL * _spread(embeddings, chosen))
    offsets, mixers = rng.random(TABLES * DIRECTIONS), rng.integers(1, 1 << 31, (TABLES, DIRECTIONS)) | 1
    places = np.concatenate(
        [_places(block @ directions + offsets, mixers) for block in _blocks(embeddings, chosen)]
    )
    seen = np.stack([np.bincount(places[:, table], minlength=CELLS) for table in range(TABLES)])
    density = seen[np.arange(TABLES), places].mean(1) / count
    weights = np.clip(density**-power / np.mean(density**-power), 1 / RANGE, RANGE)
    return np.asarray(weights / weights.mean(), np.float64)


def _blocks(embeddings: Floats, chosen: npt.NDArray[np.int64]) -> Iterator[Floats]:
    for first in range(0, len(chosen), _BLOCK):
        yield embeddings[chosen[first : first + _BLOCK]]


def _spread(embeddings: Floats, chosen: npt.NDArray[np.int64]) -> float:
    """The root mean square distance from the mean, in one direction."""
    total, squares = np.zeros(SIZE), 0.0
    for block in _blocks(embeddings, chosen):
        total += block.sum(0, dtype=np.float64)
        squares += float((block.astype(np.float64) ** 2).sum())
    mean = total / len(chosen)
    return math.sqrt(max(squares / len(chosen) - float(mean @ mean), 1e-12) / SIZE)


def _places(projected: npt.NDArray[np.float64], mixers: npt.NDArray[np.int64]) -> npt.NDArray[np.uint16]:
    """The cell of every point in every table: [points, TABLES]."""
    cells = np.floor(projected).astype(np.int64).reshape(len(projected), TABLES, DIRECTIONS)
    return np.asarray((((cells * mixers).sum(2) * 0x9E3779B1) >> 16) % CELLS, np.uint16)
