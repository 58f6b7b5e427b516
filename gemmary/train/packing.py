"""Documents to rows of fixed length. A document never crosses a row and never sees another."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..ops.contract import Floats, Ints, Step

PAD = 0
OPEN_ROWS = 64  # rows that wait for a document that fits


@dataclass(frozen=True)
class Document:
    """Token ids [n], and weights [n]: how much it counts to predict each. The first is never predicted.

    `pictures` [n]: which picture a soft token is of, -1 for text; None: there are none. A soft token weighs
    0, its id does not matter, and text stands between two pictures, as marks do in a prompt.
    """

    ids: Sequence[int]
    weights: Sequence[float]
    pictures: Sequence[int] | None = None

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.weights):
            raise ValueError(f"{len(self.ids)} ids need as many weights, not {len(self.weights)}")
        if self.pictures is not None:
            _check_pictures(self.pictures, self.weights)


@dataclass(frozen=True)
class Rows:
    """Packed rows, all [B, row]: ids, number of the document within its row, position within the document.

    weights belong to the prediction of the *next* token: 0 at a document's last token. Columns that nothing
    filled have document -1, id `PAD` and weight 0; attention treats them as a document of their own.
    `number` [B] is each row's number in the data; None stands for 0, 1, 2, ...: these rows are the data.
    `pictures` [B, row] says of which picture a soft token is, -1 for text; None: no row has one.
    """

    ids: Ints
    document: Ints
    pos: Ints
    weights: Floats
    number: Ints | None = None
    pictures: Ints | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def row(self) -> int:
        """Tokens of a row."""
        return self.ids.shape[1]

    def take(self, numbers: Ints | slice) -> Rows:
        """Some of the rows."""
        here = self._numbers()[numbers]
        seen = None if self.pictures is None else self.pictures[numbers]
        arrays = (self.ids[numbers], self.document[numbers], self.pos[numbers], self.weights[numbers])
        return Rows(*arrays, here, seen)

    def _numbers(self) -> Ints:
        return np.arange(len(self), dtype=np.int32) if self.number is None else self.number

    def places(self) -> npt.NDArray[np.int64]:
        """Places in the data [R] of the tokens that have a weight: row's number * its length + column."""
        row, column = np.nonzero(self.weights > 0)
        return self._numbers()[row].astype(np.int64) * self.ids.shape[1] + column

    @property
    def digest(self) -> str:
        """SHA-256 of ids and weights, and of where which pictures are."""
        seen = b"" if self.pictures is None else self.pictures.tobytes()
        return hashlib.sha256(self.ids.tobytes() + self.weights.tobytes() + seen).hexdigest()

    @property
    def tokens(self) -> int:
        """Tokens of documents, filling not counted."""
        return int((self.document >= 0).sum())

    @property
    def shown(self) -> Ints:
        """The pictures of these rows, in the order of rows and columns: those of the step's blocks."""
        return self._seen()[self._firsts()]

    def _seen(self) -> Ints:
        """`pictures` of all tokens [T]."""
        return np.full(self.ids.size, -1, np.int32) if self.pictures is None else self.pictures.ravel()

    def _firsts(self) -> npt.NDArray[np.bool_]:
        """Which tokens [T] are the first of a picture."""
        seen = self._seen()
        first = np.append(True, seen[1:] != seen[:-1])
        first[:: self.ids.shape[1]] = True
        return first & (seen >= 0)

    def step(self) -> tuple[Step, Ints, Floats]:
        """The step of these rows, and target ids and weights [R] of the tokens that have a weight.

        Every document is a sequence of the step; its `rows` are the tokens with a weight. Every picture is a
        block: `soft` wants the features of `shown`, in this order. The id of a soft token is `PAD`.
        """
        first = np.ones(self.ids.shape, bool)
        first[:, 1:] = self.document[:, 1:] != self.document[:, :-1]
        starts = np.append(np.flatnonzero(first), first.size).astype(np.int32)
        ids, weights = self.ids.ravel().astype(np.int32), self.weights.ravel()
        wanted = np.flatnonzero(weights > 0).astype(np.int32)
        soft = self._seen() >= 0
        step = Step(
            ids=np.where(soft, PAD, ids).astype(np.int32),
            pos=self.pos.ravel().astype(np.int32),
            seq=(np.cumsum(first) - 1).astype(np.int32),
            block=np.where(soft, np.cumsum(self._firsts()) - 1, -1).astype(np.int32),
            starts=starts,
            past=np.zeros(len(starts) - 1, np.int32),
            rows=wanted,
        )
        return step, ids[wanted + 1], weights[wanted].astype(np.float32)


class Piece(NamedTuple):
    """Tokens `first` to `last` (excluded) of a document, by the document's number."""

    document: int
    first: int
    last: int


def pack_rows(documents: Iterable[Document], row: int) -> Rows:
    """Documents in rows of `row` tokens, as `fit` lays them.

    ValueError: one with a picture is longer; it must not be cut.
    """
    held = list(documents)
    longest = max((len(d.ids) for d in held if d.pictures is not None), default=0)
    if longest > row:
        raise ValueError(
            f"a document with a picture has {longest:,} tokens and must not be cut: take rows of as many"
        )
    return _rows(held, fit((len(document.ids) for document in held), row), row)


def fit(lengths: Iterable[int], row: int) -> list[list[Piece]]:
    """Best fit: a document goes to the fullest of the open rows that has room for it.

    A document longer than `row` tokens is cut into several; what follows a cut does not see what was before.
    """
    if row < 2:
        raise ValueError(f"rows of {row} tokens leave nothing to predict")
    closed: list[list[Piece]] = []
    opened: list[_Open] = []
    for piece in _cut(lengths, row):
        size = piece.last - piece.first
        best = min((o for o in opened if o.room >= size), key=lambda o: o.room, default=None)
        if best is None:
            if len(opened) == OPEN_ROWS:
                fullest = min(opened, key=lambda o: o.room)
                opened.remove(fullest)
                closed.append(fullest.pieces)
            best = _Open(row)
        else:
            opened.remove(best)
        opened.append(best)  # rows used longest ago are tried first
        best.pieces.append(piece)
        best.room -= size
    return [*closed, *(o.pieces for o in opened)]


@dataclass(eq=False)
class _Open:
    room: int
    pieces: list[Piece] = field(default_factory=list)


def _cut(lengths: Iterable[int], row: int) -> Iterator[Piece]:
    for document, length in enumerate(lengths):
        for first in range(0, length, row):
            yield Piece(document, first, min(first + row, length))


def _rows(documents: Sequence[Document], packed: list[list[Piece]], row: int) -> Rows:
    shape = (len(packed), row)
    ids, document = np.full(shape, PAD, np.int32), np.full(shape, -1, np.int32)
    pos, weights = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
    seen = np.full(shape, -1, np.int32)
    for r, pieces in enumerate(packed):
        at = 0
        for number, (held, first, last) in enumerate(pieces):
            end = at + last - first
            ids[r, at:end], document[r, at:end] = documents[held].ids[first:last], number
            pos[r, at:end] = np.arange(end - at)
            weights[r, at : end - 1] = documents[held].weights[first + 1 : last]
            if (pictures := documents[held].pictures) is not None:
                seen[r, at:end] = pictures
            at = end
        pos[r, at:] = np.arange(row - at)
    return Rows(ids, document, pos, weights, pictures=seen if (seen >= 0).any() else None)


def _check_pictures(pictures: Sequence[int], weights: Sequence[float]) -> None:
    if len(pictures) != len(weights):
        raise ValueError(f"{len(weights)} ids need as many numbers of pictures, not {len(pictures)}")
    if any(picture >= 0 and weight for picture, weight in zip(pictures, weights, strict=True)):
        raise ValueError("a soft token has a weight, but nobody can predict a picture: make it 0")
