"""Exact `TopK` over a 16-bit table that reads two fifths of it: the 6-bit plane finds, the table decides.

The plane's product gives each logit but for an error with a proven bound (`bound`). Rows that may be among
the k best are multiplied exactly, by the bit rule of the full product (`floatrows`): the answer has its bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from ..contract import Candidates, Floats, TopK
from .bound import LINE, prefetch, prepare, survivors
from .emit import LANES
from .kernel import ADDRESS, COUNT, bytes_at, floats_at, halves_at, ints_at, kernel, record
from .plane import GROUP, STRIP, Plane
from .ranking import key, settle, write
from .selection import (
    ALSO,
    ALSO_COUNT,
    BLOCK,
    IDS,
    LOGITS,
    ROWS,
    ROWS_AT,
    RUN,
    K,
    Question,
    Selection,
    allowed_at,
    block_maxima,
    joined,
    longs_at,
)
from .tape import Tape
from .team import Team
from .threads import read
from .tile import TOKEN_BYTES, tile
from .vector import dot_bf16, dot_f16

MOST = 8  # rows at a time: as many tokens as a tile has
# (tokens of the tile, parts of a row) by the most rows: the plane is read once, and never for many tokens.
_SHAPES = ((1, (2, 2)), (2, (4, 2)), (4, (4, 1)), (8, (8, 1)))
_SHARES = 32  # pieces of the exact products of one row
_FEW = 16  # the full product is used when more than one row in so many survives


@njit(error_model="numpy")
def _add(logits: np.ndarray, more: np.ndarray, begin: int, end: int) -> None:
    for i in range(begin, end):
        logits[i] += more[i]


@njit(error_model="numpy")
def _extend(ids: np.ndarray, count: int, also: np.ndarray, allowed: np.ndarray) -> int:
    """Append what is allowed of `also`; how many."""
    more = count
    for i in also:
        if len(allowed) == 0 or allowed[i]:
            ids[more] = i
            more += 1
    return more - count


@njit(error_model="numpy")
def _find(
    logits: np.ndarray, allowed: np.ndarray, also: np.ndarray, k: int, reach: np.ndarray, maxima: np.ndarray,
    block_missed: np.ndarray, block_length: np.ndarray, uppers: np.ndarray, missed: np.ndarray,
    length: np.ndarray, ids: np.ndarray, lows: np.ndarray, highs: np.ndarray, counts: np.ndarray,
) -> None:  # fmt: skip
    """counts [2]: survivors, and ids of `also` after them; -1 and 0 where the full product has to decide."""
    counts[0], counts[1] = -1, 0
    if reach[0] == reach[0]:
        kept = survivors(
            logits, allowed, k, reach, maxima, block_missed, block_length, uppers,
            missed, length, ids, lows, highs,
        )  # fmt: skip
        if kept <= k + len(missed) // _FEW:
            counts[0], counts[1] = kept, _extend(ids, kept, also, allowed)


@njit(error_model="numpy")
def _finish(
    ids: np.ndarray, exact: np.ndarray, counts: np.ndarray, k: int, keys: np.ndarray,
    out_ids: np.ndarray, out_logits: np.ndarray,
) -> None:  # fmt: skip
    """The answer from exact logits."""
    for i in range(counts[0] + counts[1]):
        keys[i] = key(exact[i], np.int64(ids[i]))
        if exact[i] != exact[i]:
            out_ids[:] = 0
            out_logits[:] = np.float32(np.nan)
            return
    if counts[0] >= 0:
        write(keys, settle(keys, int(counts[0]), k, int(counts[1])), out_ids, out_logits)


@kernel(
    question=ADDRESS, shape=ADDRESS, rest=ADDRESS, tile=ADDRESS, reach=ADDRESS, columns=COUNT,
    longest=np.float64,
)  # fmt: skip
def _ready(pointer: Any, row: int) -> None:
    a = record(pointer)
    tokens, parts = read(a.shape), read(a.shape + 8)
    size = a.columns // GROUP * tokens * TOKEN_BYTES
    prepare(
        floats_at(read(a.question + ROWS_AT) + row * a.columns * 4, a.columns),
        floats_at(a.rest + row * a.columns * 4, a.columns),
        bytes_at(a.tile, size),
        floats_at(a.tile, size // 4),
        ints_at(a.tile, size // 4),
        tokens,
        row * parts,
        parts,
        a.longest,
        floats_at(a.reach + row * 8, 2),
    )


@kernel(
    question=ADDRESS, shape=ADDRESS, strips=ADDRESS, tile=ADDRESS, logits=ADDRESS, maxima=ADDRESS,
    vocab=COUNT, groups=COUNT,
)  # fmt: skip
def _product(pointer: Any, piece: int) -> None:
    a = record(pointer)
    begin, end = piece * RUN, min((piece + 1) * RUN, a.vocab)
    tokens, parts = read(a.shape), read(a.shape + 8)
    for first in range(begin, end, LANES):
        strip, out = a.strips + first // LANES * a.groups * STRIP, a.logits + 4 * first
        if tokens == 2:
            tile("PLANE", 2, strip, a.tile, out, a.groups, 4 * a.vocab)
        elif tokens == 4:
            tile("PLANE", 4, strip, a.tile, out, a.groups, 4 * a.vocab)
        else:
            tile("PLANE", 8, strip, a.tile, out, a.groups, 4 * a.vocab)
    blocks = (a.vocab + BLOCK - 1) // BLOCK
    for row in range(read(a.question + ROWS)):
        logits = a.logits + 4 * row * parts * a.vocab
        if parts == 2:
            _add(floats_at(logits, a.vocab), floats_at(logits + 4 * a.vocab, a.vocab), begin, end)
        block_maxima(logits, allowed_at(a.question, row), a.maxima + 4 * row * blocks, begin, end)


@kernel(
    question=ADDRESS, shape=ADDRESS, logits=ADDRESS, reach=ADDRESS, maxima=ADDRESS, block_missed=ADDRESS,
    block_length=ADDRESS, uppers=ADDRESS, missed=ADDRESS, length=ADDRESS, ids=ADDRESS, lows=ADDRESS,
    highs=ADDRESS, counts=ADDRESS, vocab=COUNT,
)  # fmt: skip
def _search(pointer: Any, row: int) -> None:
    a = record(pointer)
    vocab, blocks = a.vocab, (a.vocab + BLOCK - 1) // BLOCK
    open_ = allowed_at(a.question, row)
    _find(
        floats_at(a.logits + 4 * row * read(a.shape + 8) * vocab, vocab),
        bytes_at(open_, vocab if open_ else 0),
        ints_at(read(a.question + ALSO), read(a.question + ALSO_COUNT)),
        read(a.question + K),
        floats_at(a.reach + row * 8, 2),
        ints_at(a.maxima + 4 * row * blocks, blocks),
        floats_at(a.block_missed, blocks),
        floats_at(a.block_length, blocks),
        ints_at(a.uppers + 4 * row * blocks, blocks),
        floats_at(a.missed, vocab),
        floats_at(a.length, vocab),
        ints_at(a.ids + 8 * row * vocab, 2 * vocab),
        ints_at(a.lows + 4 * row * vocab, vocab),
        ints_at(a.highs + 4 * row * vocab, vocab),
        longs_at(a.counts + row * 16, 2),
    )


@njit(error_model="numpy")
def _score(
    half: bool, table: np.ndarray, h: np.ndarray, ids: np.ndarray, begin: int, end: int, exact: np.ndarray
) -> None:
    """Logits of ids[begin:end], as the full product computes them."""
    columns = len(h)
    for i in range(begin, end):
        if i + 1 < end:
            _fetch_row(table, ids[i + 1], columns)
        at = np.int64(ids[i]) * columns
        exact[i] = dot_f16(table, at, h, 0, columns) if half else dot_bf16(table, at, h, 0, columns)


@njit(error_model="numpy")
def _fetch_row(table: np.ndarray, id: int, columns: int) -> None:
    size = np.int64(2 * columns)
    for at in range(id * size, (id + 1) * size, LINE):
        prefetch(table.ctypes.data + at)


@kernel(
    question=ADDRESS, table=ADDRESS, ids=ADDRESS, exact=ADDRESS, counts=ADDRESS, vocab=COUNT, columns=COUNT,
    half=COUNT,
)  # fmt: skip
def _exact(pointer: Any, piece: int) -> None:
    a = record(pointer)
    row, share = piece // _SHARES, piece % _SHARES
    counts = longs_at(a.counts + row * 16, 2)
    found, at = max(counts[0] + counts[1], 0), 8 * row * a.vocab
    _score(
        a.half != 0,
        halves_at(a.table, a.vocab * a.columns),
        floats_at(read(a.question + ROWS_AT) + row * a.columns * 4, a.columns),
        ints_at(a.ids + at, found),
        int(share * found // _SHARES),
        int((share + 1) * found // _SHARES),
        floats_at(a.exact + at, found),
    )


@kernel(question=ADDRESS, ids=ADDRESS, exact=ADDRESS, counts=ADDRESS, keys=ADDRESS, vocab=COUNT)
def _answer(pointer: Any, row: int) -> None:
    a = record(pointer)
    k, also, at = read(a.question + K), read(a.question + ALSO_COUNT), 8 * row * a.vocab
    _finish(
        ints_at(a.ids + at, 2 * a.vocab),
        floats_at(a.exact + at, 2 * a.vocab),
        longs_at(a.counts + row * 16, 2),
        k,
        longs_at(a.keys + 2 * at, 2 * a.vocab),
        ints_at(read(a.question + IDS) + 4 * row * (k + also), k + also),
        floats_at(read(a.question + LOGITS) + 4 * row * (k + also), k + also),
    )


class Head:
    """`TopK` over a 16-bit table [V, D] without log sum exp.

    `queries`, `survivors` and `fallbacks` count rows asked for, table rows multiplied exactly, and rows that
    the full product had to decide: a bound that lets more than V / 16 through, or activations that are not
    finite. Log sum exp and `Targets` need every logit, so they need the full product anyway.
    """

    def __init__(
        self, plane: Plane, format: str, raw: npt.NDArray[np.uint8], team: Team,
        full: Callable[[Floats], Floats], selection: Selection,
    ) -> None:  # fmt: skip
        """`raw` are the table's bytes, of which the plane was made; full(h [R, D]) are all logits [R, V]."""
        self.queries = self.survivors = self.fallbacks = 0
        self._plane, self._format, self._raw, self._team = plane, format, raw, team
        self._full, self._selection = full, selection
        self._question = Question(plane.rows)
        self._shape = np.zeros(2, np.int64)  # tokens of the tile, and how many of them a row takes
        self._pieces = {parts: np.zeros(1, np.int64) for parts in (1, _SHARES)}
        self._buffers = self._make_buffers()
        self._tape = Tape()
        self.record(self._tape)

    def _make_buffers(self) -> dict[str, np.ndarray]:
        """Scratch by argument name. Most of it is never touched, so it takes no memory."""
        v, d, blocks = self._plane.rows, self._plane.columns, len(self._plane.block_missed)
        ints, floats = np.int32, np.float32
        columns: dict[str, tuple[int, Any]] = {
            "rest": (d, floats), "tile": (d // GROUP * TOKEN_BYTES, np.uint8), "reach": (2, floats),
            "logits": (v, floats), "maxima": (blocks, ints), "uppers": (blocks, ints),
            "lows": (v, ints), "highs": (v, ints), "ids": (2 * v, ints), "exact": (2 * v, floats),
            "keys": (2 * v, np.int64), "counts": (2, np.int64),
        }  # fmt: skip
        return {name: np.empty((MOST, n), kind) for name, (n, kind) in columns.items()}

    def record(self, tape: Tape) -> None:
        """Append the work on a question (`ask`) to a tape."""
        plane = self._plane
        known: dict[str, Any] = {
            **self._buffers, "question": self._question.words, "shape": self._shape, "table": self._raw,
            "half": self._format == "F16", "strips": plane.strips, "missed": plane.missed,
            "length": plane.length, "longest": plane.longest, "block_missed": plane.block_missed,
            "block_length": plane.block_length, "vocab": plane.rows, "columns": plane.columns,
            "groups": plane.columns // GROUP,
        }  # fmt: skip
        one, shares = self._pieces[1], self._pieces[_SHARES]
        work = (
            (_ready, one),
            (_product, -(-plane.rows // RUN)),
            (_search, one),
            (_exact, shares),
            (_answer, one),
        )
        for step, pieces in work:
            tape.add(step, pieces, **{name: known[name] for name in step.fields.names or ()})

    def takes(self, want: TopK) -> bool:
        """Whether it can answer; if not, the full product must."""
        return not want.lse and self._question.takes(want)

    def ask(self, h: Floats, want: TopK) -> Candidates:
        """Pose a question about h [R, D], R <= MOST; the answer is filled in when the tape is played."""
        self._shape[:] = next(shape for rows, shape in _SHAPES if len(h) <= rows)
        for parts, pieces in self._pieces.items():
            pieces[0] = parts * len(h)
        return self._question.ask(h, want)

    def checked(self, h: Floats, want: TopK, answer: Candidates) -> Candidates:
        """The answer of a tape that was played, where need be from the full product."""
        counts = self._buffers["counts"][: len(h), 0]
        failed = np.flatnonzero(counts < 0)
        self.queries += len(h)
        self.survivors += int(counts.clip(0).sum())
        self.fallbacks += len(failed)
        if len(failed):
            whole = self._selection.candidates(self._full(np.ascontiguousarray(h[failed])), want.of(failed))
            answer.ids[failed], answer.logits[failed] = whole.ids, whole.logits
        return answer

    def top_k(self, h: Floats, want: TopK) -> Candidates:
        """The same bits as from all logits; `takes(want)` must hold. Log sum exp is NaN."""
        h, parts = np.ascontiguousarray(h), []
        for start in range(0, len(h), MOST):
            some = slice(start, start + MOST)
            answer = self.ask(h[some], want.of(some))
            self._team.play(self._tape)
            parts.append(self.checked(h[some], want.of(some), answer))
        return parts[0] if len(parts) == 1 else joined(parts)
