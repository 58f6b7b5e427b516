"""How a step is cut over chips, and what it learns from: what its memory and time depend on. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..config import Config

FLOAT, LOW = 4, 2  # bytes of float32, bfloat16


@dataclass(frozen=True)
class Split:
    """Chips = replicas x shards x sequence. Weights are cut over shards x sequence, rows over `sequence`.

    `gemmary train` itself does not cut rows: its `sequence` is 1.
    """

    replicas: int = 1
    shards: int = 1
    sequence: int = 1

    @property
    def chips(self) -> int:
        """All of them."""
        return self.replicas * self.pieces

    @property
    def pieces(self) -> int:
        """Into how many pieces weights, gradients and optimizer states are cut."""
        return self.shards * self.sequence


@dataclass(frozen=True)
class Work:
    """A step: `parts` micro-batches of `rows` rows of `row` tokens, for each data shard of each replica.

    The switches are those of `loop.Plan`; `dense`: attention reads a mask of numbers, as it does on a CPU.
    """

    row: int
    rows: int = 1
    parts: int = 1
    low: bool = True
    recompute: bool = True
    muon: bool = True
    ema: bool = False
    dense: bool = False

    @property
    def size(self) -> int:
        """Bytes of a number that matrices are multiplied with."""
        return LOW if self.low else FLOAT

    def tokens(self, split: Split) -> int:
        """Tokens of a step, on all chips."""
        return self.row * self.rows * self.parts * split.replicas * split.shards


def splits(chips: int) -> Iterator[Split]:
    """Every way to make replicas of shards; rows of text stay whole."""
    return (Split(chips // shards, shards) for shards in range(1, chips + 1) if chips % shards == 0)


def matrices(config: Config) -> int:
    """Numbers in the matrices of the layers."""
    norms = config.layers * (4 * config.width + 2 * config.head_dim) + config.width
    return config.body_parameters - norms


def numbers(config: Config) -> int:
    """Numbers in the whole text model."""
    return config.embedding_parameters + config.body_parameters
