"""Packed rows of shards, made when they are asked for: `Batches` takes them as it takes `Rows`."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np

from ...ops.contract import Floats, Ints
from ..packing import PAD, Piece, Rows, fit
from .shards import Array, Shard, ShardError, Shards


class Seen(NamedTuple):
    """Where rows show a picture: the row and column of its first soft token, its line in pictures.jsonl."""

    row: int
    column: int
    picture: int


class PackedShards:
    """Rows of `row` tokens over all shards: which documents each holds is kept, their tokens stay on disk.

    Every document is in exactly one row (one longer than `row` in several); no row reaches over two shards.
    The packing depends on the lengths alone, so that rows have the same numbers whenever shards are opened.
    """

    def __init__(self, shards: Shards, row: int) -> None:
        self._shards, self.row = shards, row
        self._packed = [fit(np.diff(shard.starts).tolist(), row) for shard in shards.shards]
        self._ends = np.cumsum([len(packed) for packed in self._packed])
        for shard in shards.shards:
            _check_pictures(shard, row)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @property
    def tokens(self) -> int:
        """Tokens of all documents."""
        return int(self._shards.manifest["tokens"])

    @property
    def digest(self) -> str:
        """Of what the shards hold and how it is packed: a run goes on only with what it began with."""
        return hashlib.sha256(f"{self._shards.digest} {self.row}".encode()).hexdigest()

    def take(self, numbers: Ints | slice) -> Rows:
        """Some of the rows."""
        chosen = np.arange(len(self), dtype=np.int32)[numbers]
        shape = (len(chosen), self.row)
        ids, document = np.full(shape, PAD, np.int32), np.full(shape, -1, np.int32)
        pos, weights = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
        seen = np.full(shape, -1, np.int32)
        for r, number in enumerate(chosen):
            at = 0
            shard, pieces = self._pieces(int(number))
            for place, piece in enumerate(pieces):
                tokens = shard.document(piece.document)[piece.first : piece.last]
                end = at + len(tokens)
                ids[r, at:end], document[r, at:end] = tokens, place
                pos[r, at:end] = np.arange(len(tokens))
                weights[r, at : end - 1] = self._counts(tokens[1:])
                at = end
            pos[r, at:] = np.arange(self.row - at)
        for r, column, picture in self.pictures(chosen):
            soft = ids[r] == ids[r, column]
            seen[r, column : column + _run(soft[column:])] = picture
        return Rows(ids, document, pos, weights, chosen, seen if (seen >= 0).any() else None)

    def pictures(self, numbers: Ints) -> list[Seen]:
        """Where the pictures of these rows are, in the order of rows and columns."""
        seen: list[Seen] = []
        for r, number in enumerate(numbers):
            at = 0
            shard, pieces = self._pieces(int(number))
            for piece in pieces:
                for _, column, picture in _of_document(shard, piece.document):
                    if piece.first <= column < piece.last:
                        seen.append(Seen(r, at + int(column) - piece.first, int(picture)))
                at += piece.last - piece.first
        return seen

    def _pieces(self, number: int) -> tuple[Shard, list[Piece]]:
        which = int(np.searchsorted(self._ends, number, side="right"))
        before = int(self._ends[which - 1]) if which else 0
        return self._shards.shards[which], self._packed[which][number - before]

    def _counts(self, targets: Array) -> Floats:
        return (~np.isin(targets, self._shards.unpredicted)).astype(np.float32)


def _run(soft: Array) -> int:
    """How many tokens are soft from the first one on."""
    return int(soft.argmin()) or len(soft)  # none is not: the row ends with them


def _of_document(shard: Shard, document: int) -> Array:
    """The lines of `pictures` of a document; they are sorted by it."""
    first, last = np.searchsorted(shard.pictures[:, 0], [document, document + 1])
    return shard.pictures[first:last]


def _check_pictures(shard: Shard, row: int) -> None:
    if len(shard.pictures):
        longest = int(np.diff(shard.starts)[shard.pictures[:, 0]].max())
        if longest > row:
            raise ShardError(
                f"a document with a picture has {longest:,} tokens and must not be cut: take rows of as many"
            )
