"""The texts that both sides of the training table learn: random ids in packed rows, the same for a seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gemmary.config import Config
from gemmary.ops.intervals import intervals
from gemmary.train.packing import Document, Rows, pack_rows


@dataclass(frozen=True)
class Job:
    """What a side trains: a size, rows of `row` tokens, `parts` micro-batches of `rows` rows an update."""

    size: str
    row: int
    rows: int
    parts: int
    device: str
    threads: int


def packed(config: Config, row: int, count: int, seed: int = 0) -> Rows:
    """At least `count` rows of texts whose lengths have a long tail, every token predicted."""
    dice, texts, tokens = np.random.default_rng(seed), [], 0
    while tokens < row * count:
        length = int(np.clip(dice.lognormal(np.log(row / 4), 1.0), 8, row))
        texts.append(Document(dice.integers(10, config.vocab, length).tolist(), [1.0] * length))
        tokens += length
    return pack_rows(texts, row)


def operations(config: Config, rows: Rows) -> float:
    """Floating-point operations a token: 6 for each parameter, 12 * heads * width for each key that is seen.

    Forward and backward pass, nothing counted twice that is computed twice.
    """
    step, _, _ = rows.step()
    keys = 0.0
    for layer in range(config.layers):
        seen = intervals(step, rows.ids.shape[1], None if config.is_global(layer) else config.window)
        keys += float((seen.last - seen.first + 1)[rows.document >= 0].mean())
    return 6.0 * config.parameters + 12.0 * config.heads * config.head_dim * keys
