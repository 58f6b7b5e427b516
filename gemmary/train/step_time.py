"""Seconds of a step, from rates alone: matrix products at a share of the peak, traffic over the links.

Gathering and summing run behind the compute as far as it goes; the table, which the first operation needs,
does not. Nothing here was measured on these chips: it compares plans, and tells which of the bounds holds.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..config import Config
from .chips import Chip
from .split import FLOAT, Split, Work, matrices, numbers

LINKS = 0.8  # share of a link's bandwidth that a collective reaches


@dataclass(frozen=True)
class Time:
    """Seconds a step: `compute`; `shards`, to gather weights and sum gradients; `replicas`, to sum those of
    replicas; `sequence`, for keys and values of other chips; `update`. `total` is after overlapping.
    """

    compute: float
    shards: float
    replicas: float
    sequence: float
    update: float
    total: float


def operations(config: Config, work: Work) -> float:
    """Floating-point operations a token: 6 a weight that multiplies, attention within windows, and again."""
    again = 2 * matrices(config) if work.recompute else 0
    seen = sum(_seen(config, layer, work.row) for layer in range(config.layers))
    products = 4 * config.heads * config.head_dim * seen  # scores, and values by weights
    times = 4 if work.recompute else 3
    return 6 * (matrices(config) + config.embedding_parameters) + again + products * times


def _seen(config: Config, layer: int, row: int) -> float:
    """Keys that a token of a row sees, on average."""
    window = row if config.is_global(layer) else min(row, config.window)
    return window - window * (window - 1) / (2 * row)


def step_time(config: Config, chip: Chip, split: Split, work: Work, utilisation: float) -> Time:
    rate = chip.peak * utilisation
    tokens = work.row * work.rows / split.sequence
    compute = operations(config, work) * tokens / rate
    shards, root = _gathering(config, chip, split, work)
    sequence = _exchange(config, chip, split, work)
    replicas = _summing(config, chip, split)
    update = _orthogonalising(config) / split.pieces / rate if work.muon else 0.0
    hidden = max(0.0, replicas - compute * 2 / 3)  # behind the last backward pass
    total = work.parts * max(compute, shards + sequence) + root + hidden + update
    parts = work.parts
    return Time(compute * parts, shards * parts, replicas, sequence * parts, update, total)


def _gathering(config: Config, chip: Chip, split: Split, work: Work) -> tuple[float, float]:
    """Seconds to gather layers twice, the table once, and to sum gradients; and of the table alone."""
    size = work.size
    table = FLOAT * config.embedding_parameters
    total = 2 * size * config.body_parameters + FLOAT * numbers(config) + table
    return _collective(total, split.pieces, chip), _collective(table, split.pieces, chip)


def _collective(size: float, chips: int, chip: Chip) -> float:
    """Seconds until each of `chips` has `size` bytes of which each had a part, or a part of their sum.

    An island takes what it lacks over all its network cards, and passes it round inside.
    """
    islands = -(-chips // chip.island)
    inside = size * (chips - 1) / chips / chip.link
    between = size * (islands - 1) / islands / (min(chips, chip.island) * chip.network)
    return max(inside, between) / LINKS


def _summing(config: Config, chip: Chip, split: Split) -> float:
    """Seconds a step to sum the gradients of replicas."""
    size = 2 * FLOAT * numbers(config) / split.pieces * (split.replicas - 1) / split.replicas
    return size / (chip.link if split.chips <= chip.island else chip.network) / LINKS


def _exchange(config: Config, chip: Chip, split: Split, work: Work) -> float:
    """Seconds a micro-batch for keys and values that other chips have of a row, and for their gradients."""
    if split.sequence == 1:
        return 0.0
    size = 2 * config.kv_heads * config.head_dim * work.size * work.rows
    own = work.row / split.sequence
    keys = sum(
        work.row - own if config.is_global(layer) else min(config.window, work.row - own)
        for layer in range(config.layers)
    )
    return (4 if work.recompute else 3) * size * keys / chip.link / LINKS


def _orthogonalising(config: Config) -> float:
    """Operations of Muon's five steps over all matrices."""
    width, queries, keys = config.width, config.heads * config.head_dim, config.kv_heads * config.head_dim
    shapes = [(width, queries)] * 2 + [(width, keys)] * 2 + [(width, config.ffn)] * 3
    return config.layers * sum(5 * (4 * min(s) ** 2 * max(s) + 2 * min(s) ** 3) for s in shapes)
