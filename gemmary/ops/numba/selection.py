"""The best of a row of logits without sorting it: maxima of blocks of 64 columns say where to look.

At least k columns are as large as the k-th largest block maximum; only blocks whose maximum reaches it can
hold one of the k largest.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, njit, types  # type: ignore[attr-defined]
from numba.extending import register_jitable

from ..candidates import candidates
from ..contract import Candidates, Floats, Ints, Scored, TopK
from .emit import I8, I32, I64, LANES, VF, VI, Emitter, Value, floats, inline, ints
from .kernel import ADDRESS, COUNT, address_of, bytes_at, floats_at, ints_at, kernel, record
from .logsum import SPAN, fold, sum_span
from .ranking import LOWEST, MAGNITUDE, NAN, border, key, largest, order, settle, write
from .tape import Tape
from .team import Team
from .threads import read

BLOCK = 64  # columns
RUN = LANES * BLOCK  # columns whose block maxima are one vector
PIECE = 8 * RUN
_NO_ALSO = np.zeros(0, np.int32)

# Words of a question: addresses and numbers. NEXT_ALLOWED: bytes from a row's `allowed` to the next row's
ROWS_AT, ROWS, K, ALLOWED, NEXT_ALLOWED, ALSO, ALSO_COUNT, IDS, LOGITS, LSE = range(0, 80, 8)


def _runs(masked: bool) -> Any:
    """Compiled code (x, allowed, orders): the orders of the maxima of sixteen blocks of 64 columns."""

    def body(e: Emitter, x: Value, allowed: Value, orders: Value) -> None:
        blocks = [_block(e, x, allowed, block * BLOCK, masked) for block in range(LANES)]
        while len(blocks) > 1:
            blocks = [_pairs(e, a, b) for a, b in zip(blocks[::2], blocks[1::2], strict=True)]
        e.store(blocks[0], orders)

    body.__name__ = "masked_run" if masked else "run"
    return inline(types.void, *([types.intp] * 3))(body)


def _block(e: Emitter, x: Value, allowed: Value, first: int, masked: bool) -> Value:
    """64 columns: the order of the largest in each lane; where one is NaN, the largest order of all."""
    values = [e.load(VF, x, 4 * (first + i)) for i in range(0, BLOCK, LANES)]
    bad = e.b.or_(*(e.b.fcmp_unordered("uno", *values[i : i + 2]) for i in (0, 2)))
    if masked:
        for i, value in enumerate(values):
            bits = e.load(ir.VectorType(I8, LANES), allowed, first + LANES * i, 1)
            there = e.b.icmp_signed("!=", bits, ir.Constant(bits.type, [ir.Constant(I8, 0)] * LANES))
            values[i] = e.b.select(there, value, floats(-np.inf))
    while len(values) > 1:
        values = [
            e.b.select(e.b.fcmp_ordered(">", a, b), a, b)
            for a, b in zip(values[::2], values[1::2], strict=True)
        ]
    bits = e.cast(e.b.fadd(values[0], floats(0.0)), VI)  # -0 becomes 0
    order = e.b.xor(bits, e.b.and_(e.b.ashr(bits, ints(31)), ints(MAGNITUDE)))
    return e.b.select(bad, ints(MAGNITUDE), order)


def _pairs(e: Emitter, a: Value, b: Value) -> Value:
    """The larger of each two neighbours, those of a first."""
    even, odd = (
        e.b.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, LANES), list(range(start, 2 * LANES, 2))))
        for start in (0, 1)
    )
    return e.b.select(e.b.icmp_signed(">", even, odd), even, odd)


_run, _masked_run = _runs(False), _runs(True)


@inline(types.CPointer(types.int64), types.intp)
def _longs(e: Emitter, address: Value) -> Value:
    return e.b.inttoptr(address, I64.as_pointer())


@register_jitable(forceinline=True)
def longs_at(address: int, count: int) -> Any:
    """int64 [count] at an address."""
    return carray(_longs(address), (count,))


@njit(error_model="numpy")
def block_maxima(x: int, allowed: int, orders: int, begin: int, end: int) -> None:
    """Orders of the maxima of the blocks of columns begin .. end - 1; begin is a multiple of RUN.

    x, allowed (0: all) and orders are addresses of the row's first. What is not allowed counts as -inf, but
    NaN counts everywhere.
    """
    runs = (end - begin) // RUN
    for i in range(runs):
        at = begin + i * RUN
        if allowed:
            _masked_run(x + 4 * at, allowed + at, orders + at // BLOCK * 4)
        else:
            _run(x + 4 * at, allowed, orders + at // BLOCK * 4)
    found = ints_at(orders, (end + BLOCK - 1) // BLOCK)
    _tail(floats_at(x, end), bytes_at(allowed, end if allowed else 0), found, begin + runs * RUN)


@njit(error_model="numpy")
def _tail(x: np.ndarray, allowed: np.ndarray, orders: np.ndarray, begin: int) -> None:
    """The same for columns left over, one by one."""
    for first in range(begin, len(x), BLOCK):
        top = LOWEST - 1
        for i in range(first, min(first + BLOCK, len(x))):
            if x[i] != x[i] or len(allowed) == 0 or allowed[i]:
                top = max(top, int(order(x[i])))
        orders[first // BLOCK] = top


@njit(error_model="numpy")
def gather(x: np.ndarray, allowed: np.ndarray, maxima: np.ndarray, low: int, keys: np.ndarray) -> int:
    """Keys of all columns whose order is at least `low`; how many. `allowed` may be empty: all are."""
    found = 0
    for block in range(len(maxima)):
        if maxima[block] >= low:
            for i in range(block * BLOCK, min((block + 1) * BLOCK, len(x))):
                if order(x[i]) >= low and (len(allowed) == 0 or allowed[i]):
                    keys[found] = key(x[i], np.int64(i))
                    found += 1
    return found


@njit(error_model="numpy")
def choose(
    x: np.ndarray, allowed: np.ndarray, maxima: np.ndarray, also: np.ndarray, k: int, keys: np.ndarray,
    ids: np.ndarray, logits: np.ndarray,
) -> None:  # fmt: skip
    """Write the k best of a row and those of `also`, given the orders of its block maxima."""
    if largest(maxima) >= NAN:
        logits[:] = np.float32(np.nan)
        ids[:] = 0
        return
    found = gather(x, allowed, maxima, border(maxima, k), keys)
    more = found
    for i in also:
        if order(x[i]) >= LOWEST and (len(allowed) == 0 or allowed[i]):
            keys[more] = key(x[i], np.int64(i))
            more += 1
    write(keys, settle(keys, found, k, more - found), ids, logits)


@njit(error_model="numpy")
def allowed_at(question: int, row: int) -> int:
    """Address of what is allowed at a row; 0: everything."""
    return read(question + ALLOWED) + row * read(question + NEXT_ALLOWED)


@kernel(question=ADDRESS, maxima=ADDRESS, columns=COUNT, parts=COUNT)
def _maxima(pointer: Any, piece: int) -> None:
    a = record(pointer)
    row, begin = piece // a.parts, piece % a.parts * PIECE
    blocks = (a.columns + BLOCK - 1) // BLOCK
    x = read(a.question + ROWS_AT) + row * a.columns * 4
    block_maxima(
        x, allowed_at(a.question, row), a.maxima + row * blocks * 4, begin, min(begin + PIECE, a.columns)
    )


@kernel(question=ADDRESS, maxima=ADDRESS, keys=ADDRESS, columns=COUNT, room=COUNT)
def _choose(pointer: Any, row: int) -> None:
    a = record(pointer)
    blocks, k, also = (a.columns + BLOCK - 1) // BLOCK, read(a.question + K), read(a.question + ALSO_COUNT)
    open_ = allowed_at(a.question, row)
    answer = row * (k + also) * 4
    choose(
        floats_at(read(a.question + ROWS_AT) + row * a.columns * 4, a.columns),
        bytes_at(open_, a.columns if open_ else 0),
        ints_at(a.maxima + row * blocks * 4, blocks),
        ints_at(read(a.question + ALSO), also),
        k,
        longs_at(a.keys + row * a.room * 8, a.room),
        ints_at(read(a.question + IDS) + answer, k + also),
        floats_at(read(a.question + LOGITS) + answer, k + also),
    )


@kernel(question=ADDRESS, peaks=ADDRESS, sums=ADDRESS, columns=COUNT, spans=COUNT)
def _spans(pointer: Any, piece: int) -> None:
    a = record(pointer)
    row, begin = piece // a.spans, piece % a.spans * SPAN
    x = read(a.question + ROWS_AT) + (row * a.columns + begin) * 4
    sum_span(x, min(SPAN, a.columns - begin), a.peaks + 4 * piece, a.sums + 4 * piece)


@kernel(question=ADDRESS, peaks=ADDRESS, sums=ADDRESS, spans=COUNT)
def _fold(pointer: Any, row: int) -> None:
    a = record(pointer)
    at, count = row * a.spans * 4, a.spans
    lse = floats_at(read(a.question + LSE) + 4 * row, 1)
    fold(floats_at(a.peaks + at, count), floats_at(a.sums + at, count), lse)


class Question:
    """A `TopK` about some rows of `columns` candidates, where kernels find it: `words` int64 [10]."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.words = np.zeros(10, np.int64)
        self._arrays: tuple[Any, ...] = ()

    def takes(self, want: TopK) -> bool:
        """Whether few enough are wanted for blocks to help."""
        also = 0 if want.also is None else len(want.also)
        return 0 < want.k <= self.columns // BLOCK // 4 + 1 and also <= self.columns

    def ask(self, rows: Floats, want: TopK) -> Candidates:
        """Pose the question about rows float32 [R, n]; the answer, which kernels fill."""
        also = _NO_ALSO if want.also is None else np.ascontiguousarray(want.also, np.int32)
        allowed = None if want.allowed is None else np.ascontiguousarray(want.allowed)
        count = min(want.k, self.columns)
        shape = len(rows), count + len(also)
        answer = Candidates(
            np.empty(shape, np.int32), np.empty(shape, np.float32), np.full(len(rows), np.nan, np.float32)
        )
        arrays = rows, allowed, also, answer.ids, answer.logits, answer.lse
        self._arrays = arrays  # kept alive
        at, open_, extra, ids, logits, lse = (address_of(array) for array in arrays)
        step = self.columns if allowed is not None and allowed.ndim == 2 else 0
        self.words[:] = at, len(rows), count, open_, step, extra, len(also), ids, logits, lse
        return answer


class Selection:
    """Answers `TopK` and `Targets` from rows of `columns` logits, up to `rows` at a time."""

    def __init__(self, columns: int, rows: int, team: Team) -> None:
        self.columns, self.rows, self._team = columns, rows, team
        self._question = Question(columns)
        self._pieces: dict[int, np.ndarray] = {}  # by the pieces of one row
        self._buffers: list[np.ndarray] = []
        self._without_lse, self._with_lse = Tape(), Tape()
        self.record(self._without_lse, False)
        self.record(self._with_lse, True)

    def record(self, tape: Tape, lse: bool) -> None:
        """Append the work on a question (`ask`) to a tape."""
        blocks, parts, spans = (-(-self.columns // size) for size in (BLOCK, PIECE, SPAN))
        maxima = self._buffer(blocks, np.int32)
        # Untouched memory costs nothing: only ties in masses fill this.
        keys = self._buffer(2 * self.columns + blocks, np.int64)
        shared: dict[str, Any] = {"question": self._question.words, "columns": self.columns}
        tape.add(_maxima, self._count(parts), maxima=maxima, parts=parts, **shared)
        if lse:
            peaks, sums = (self._buffer(spans, np.float32) for _ in range(2))
            work: dict[str, Any] = {"peaks": peaks, "sums": sums, "spans": spans}
            tape.add(_spans, self._count(spans), waits=False, **work, **shared)
            tape.add(_fold, self._count(1), question=self._question.words, **work)
        room = keys.shape[1]
        tape.add(_choose, self._count(1), waits=not lse, maxima=maxima, keys=keys, room=room, **shared)

    def ask(self, logits: Floats, want: TopK) -> Candidates:
        """Pose a question about logits [R, columns]; the answer is filled in when the tape is played.

        `takes(want)` must hold.
        """
        for parts, pieces in self._pieces.items():
            pieces[0] = parts * len(logits)
        return self._question.ask(logits, want)

    def takes(self, want: TopK) -> bool:
        """Whether few enough are wanted for blocks to help; if not, NumPy sorts."""
        return self._question.takes(want)

    def candidates(self, logits: Floats, want: TopK) -> Candidates:
        """The same as `ops.candidates`, where columns left over have id 0; log sum exp is NaN if not wanted.

        A row with a NaN, allowed or not, has only NaN logits.
        """
        logits = np.ascontiguousarray(logits)
        some = [slice(i, i + self.rows) for i in range(0, len(logits), self.rows)]
        parts = [self._part(logits[rows], want.of(rows)) for rows in some]
        return parts[0] if len(parts) == 1 else joined(parts)

    def scored(self, logits: Floats, ids: Ints) -> Scored:
        """The logits of one id a row [R], with log sum exp and the best id of all."""
        best = self.candidates(logits, TopK(1))
        return Scored(logits[np.arange(len(logits)), ids], best.lse, best.ids[:, 0])

    def _part(self, logits: Floats, want: TopK) -> Candidates:
        few = self.takes(want)
        answer = self.ask(logits, want if few else TopK(1))
        self._team.play(self._with_lse if want.lse else self._without_lse)
        if few:
            return answer
        everything = candidates(logits, answer.lse, want)
        everything.logits[np.isnan(answer.logits[:, 0])] = np.nan
        return everything

    def _buffer(self, columns: int, kind: Any) -> np.ndarray:
        self._buffers.append(np.empty((self.rows, columns), kind))
        return self._buffers[-1]

    def _count(self, parts: int) -> np.ndarray:
        return self._pieces.setdefault(parts, np.zeros(1, np.int64))


def joined(parts: list[Candidates]) -> Candidates:
    """One answer from the answers of consecutive rows."""
    columns = ((part.ids, part.logits, part.lse) for part in parts)
    ids, logits, lse = (np.concatenate(arrays) for arrays in zip(*columns, strict=True))
    return Candidates(ids, logits, lse)
