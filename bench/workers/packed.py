"""The texts that both sides of the training table learn: random ids in packed rows, the same for a seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gemmary.config import Config
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


def lengths(rows: Rows) -> list[int]:
    """Tokens of every document, filling not counted."""
    step, _, _ = rows.step()
    real = rows.document.ravel()[step.starts[:-1]] >= 0
    return [int(length) for length in np.diff(step.starts)[real]]
