"""Documents of a crowded kind step back: inverse-propensity weights by a sketch (Sachdeva et al. 2024).

A document is a point: the random signs of its words, added up. Several hash functions, each the signs of a
few random directions, count how many points fall where it falls. The mean of the counts estimates how dense the
documents lie around it. Weights re-weight, they never drop: the smallest and the largest are 16 times apart.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .words import Hashes

SIZE = 32  # numbers of an embedding
TABLES, DIRECTIONS = 16, 6  # hash functions, and bits of each
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
    return np.asarray(total / max(np.linalg.norm(total), 1e-9), np.float32)


def density_weights(embeddings: Floats, power: float, seed: int) -> npt.NDArray[np.float64]:
    """Weights [documents] with mean 1, in proportion to density ** -power; a memory map is read in blocks."""
    count = len(embeddings)
    if not count or not power:
        return np.ones(count)
    total = np.zeros(SIZE)
    for block in _blocks(embeddings):
        total += block.sum(0, dtype=np.float64)
    centre = total / count
    directions = np.random.default_rng(seed).standard_normal((SIZE, TABLES * DIRECTIONS))
    places = np.concatenate([_places((block - centre) @ directions) for block in _blocks(embeddings)])
    seen = np.zeros((TABLES, 1 << DIRECTIONS))
    for table in range(TABLES):
        seen[table] = np.bincount(places[:, table], minlength=1 << DIRECTIONS)
    density = seen[np.arange(TABLES), places].mean(1) / count
    weights = np.clip(density**-power / np.mean(density**-power), 1 / RANGE, RANGE)
    return np.asarray(weights / weights.mean(), np.float64)


def _blocks(embeddings: Floats) -> list[Floats]:
    return [embeddings[first : first + _BLOCK] for first in range(0, len(embeddings), _BLOCK)]


def _places(projected: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """The bucket of every point in every table: [points, TABLES]."""
    bits = (projected > 0).reshape(len(projected), TABLES, DIRECTIONS)
    return np.asarray(bits @ (1 << np.arange(DIRECTIONS)), np.int64)
