"""Exact `TopK` over a 16-bit table that reads half of its bytes: the 8-bit plane finds, the table decides.

A row h of activations is rounded to int8: h1. Where the processor has time while it waits for the plane, what
was left is rounded too: h2, else 0. The plane's products with both add up to a. With w a row of the table, q its
row of the plane, s the logit as the full product computes it, n columns in G = n / 32 groups, u = 2^-24, and
r1 = h - h1, r2 = r1 - h2:

    s is w . h          but for n / 16 + 5 roundings, each at most u |w| |h|           (`vector`: lanes, tree)
    w . h               = q . (h1 + h2) + (w - q) . h + q . r2
    a is q . (h1 + h2)  but for G + 3 roundings, each at most u |q| (|h1| + |h2|)      (`tile`, and their sum)

By Cauchy and Schwarz, with |q| <= |w| + |w - q| and |h1| + |h2| <= |h| + 2 |r1| + |r2| = H:

    |a - s| <= |w - q| (|h| + |r2| + g H) + |w| (|r2| + g H + g' |h|)

where g and g' are the numbers of roundings times u, with some to spare: for those of a - bound and a + bound.
Numbers too small for float32 are lost at 2^-100 altogether. `missed` and `length` of a `Plane` stand for |w - q|
and |w|; what is computed from h is rounded upwards.

Rows whose a + bound is below the k-th largest a - bound have k better ones: they are not among the k best. The
others are multiplied exactly, by the same dot product as in the full product.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit, types

from ..contract import Candidates, Floats, TopK
from .emit import I8, I32, LANES, Emitter, Value, inline, ir
from .kernel import ADDRESS, COUNT, bytes_at, floats_at, halves_at, ints_at, kernel, record
from .plane import GROUP, STRIP, Plane
from .ranking import LOWEST, border, key, order, settle, value, write
from .selection import (
    ALLOWED,
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
# (tokens of the tile, parts of a row) by the most rows: one reading of the plane, never more than eight tokens.
_SHAPES = ((1, (2, 2)), (2, (4, 2)), (4, (8, 2)), (8, (8, 1)))
_LINE = 64  # bytes of memory that come together
_SHARES = 32  # pieces of the exact products of one row
_FEW = 16  # the full product is used when more than one row in so many survives
_UNIT = 2.0**-24
_TINY = np.float32(2.0**-100)
_UPWARDS = 1 + 2.0**-20
_SMALLEST = np.float32(1e-30)  # blocks below are rounded to 0
_HUGE = 1e37  # |w| |h| from here on: sums may come near the largest float32

_two, _four, _eight = tile("Q8_0", 2), tile("Q8_0", 4), tile("Q8_0", 8)


@inline(types.void, types.intp)
def _prefetch(e: Emitter, address: Value) -> None:
    """Start to read a line of memory."""
    place = e.b.inttoptr(address, I8.as_pointer())
    e.call("llvm.prefetch.p0", ir.VoidType(), place, *(ir.Constant(I32, n) for n in (0, 3, 1)))


@njit(error_model="numpy")
def _round(
    x: np.ndarray, codes: np.ndarray, numbers: np.ndarray, sums: np.ndarray, tokens: int, token: int
) -> float:
    """Round x float32 [n] to int8 in place: what was left takes its place. Returns |rest|.

    The codes go to one token of a tile (`tile`), seen as int8, float32 and int32.
    """
    squares = 0.0
    for block in range(len(x) // GROUP):
        peak = np.float32(0)
        for i in range(block * GROUP, (block + 1) * GROUP):
            peak = max(peak, np.float32(abs(x[i])))
        large = peak > _SMALLEST
        scale = np.float32(peak / np.float32(127)) if large else np.float32(0)
        inverse = np.float32(np.float32(127) / peak) if large else np.float32(0)
        at, total = block * tokens * TOKEN_BYTES, np.int32(0)
        for i in range(GROUP):
            old = x[block * GROUP + i]
            code = np.rint(np.float32(old * inverse))
            rest = np.float64(old) - np.float64(code) * np.float64(scale)
            x[block * GROUP + i] = np.float32(rest)
            squares += rest * rest
            codes[at + (i // 4 * tokens + token) * 4 + i % 4] = np.int8(np.int32(code))
            total += np.int32(code)
        numbers[at // 4 + 8 * tokens + token] = scale
        sums[at // 4 + 9 * tokens + token] = -total
    return np.sqrt(squares)


@njit(error_model="numpy")
def _prepare(
    h: np.ndarray, x: np.ndarray, codes: np.ndarray, numbers: np.ndarray, sums: np.ndarray,
    tokens: int, token: int, parts: int, longest: float, reach: np.ndarray,
) -> None:  # fmt: skip
    """Round h, and write what multiplies |w - q| and |w| in the bound: reach [2], NaN if there is none."""
    squares = 0.0
    for i in range(len(h)):
        x[i] = h[i]
        squares += np.float64(h[i]) * np.float64(h[i])
    length = np.sqrt(squares)
    if not (longest * length < _HUGE and length < _HUGE):
        reach[:] = np.float32(np.nan)
        return
    left = rest = _round(x, codes, numbers, sums, tokens, token)
    if parts == 2:
        rest = _round(x, codes, numbers, sums, tokens, token + 1)
    rest += 2 * _UNIT * left  # on its way it was rounded to float32
    groups = len(h) // GROUP
    slack = (groups + 8) * _UNIT * (length + 2 * left + rest)
    spread = (2 * groups + 8) * _UNIT * length
    reach[0] = (length + rest + slack) * _UPWARDS + _SMALLEST
    reach[1] = (rest + slack + spread) * _UPWARDS + _SMALLEST


@njit(error_model="numpy")
def _bound(missed: np.float32, length: np.float32, reach: np.ndarray) -> np.float32:
    """The most by which the plane's logit is off. It grows with both lengths, roundings included."""
    return np.float32(np.float32(missed * reach[0]) + np.float32(length * reach[1])) + _TINY


@njit(error_model="numpy")
def _add(logits: np.ndarray, more: np.ndarray, begin: int, end: int) -> None:
    for i in range(begin, end):
        logits[i] += more[i]


@njit(error_model="numpy")
def _survivors(
    logits: np.ndarray, allowed: np.ndarray, k: int, reach: np.ndarray,
    maxima: np.ndarray, block_missed: np.ndarray, block_length: np.ndarray, uppers: np.ndarray,
    missed: np.ndarray, length: np.ndarray, ids: np.ndarray, lows: np.ndarray, highs: np.ndarray,
) -> int:  # fmt: skip
    """Write the ids of all rows that may be among the k best; how many. Uses up `maxima`."""
    for block in range(len(maxima)):
        top, off = value(np.int32(maxima[block])), _bound(block_missed[block], block_length[block], reach)
        open_ = maxima[block] >= LOWEST
        uppers[block] = order(top + off) if open_ else LOWEST - 1
        maxima[block] = order(top - off) if open_ else LOWEST - 1
    low = border(maxima, k, k // 4)
    found = _scan(logits, allowed, low, reach, block_missed, block_length, uppers, ids)
    _fetch_early(missed.ctypes.data, length.ctypes.data, ids[:found])
    for i in range(found):
        at = ids[i]
        off = _bound(missed[at], length[at], reach)
        lows[i], highs[i] = order(logits[at] - off), order(logits[at] + off)
    low, kept = border(lows[:found], k, 0), 0
    for i in range(found):
        if highs[i] >= low:
            ids[kept] = ids[i]
            kept += 1
    return kept


@njit(error_model="numpy")
def _scan(
    logits: np.ndarray, allowed: np.ndarray, low: int, reach: np.ndarray,
    block_missed: np.ndarray, block_length: np.ndarray, uppers: np.ndarray, ids: np.ndarray,
) -> int:  # fmt: skip
    """Write the ids that reach `low` by the bound of their block; how many."""
    for block in range(len(uppers)):
        if uppers[block] >= low:
            for line in range(4 * BLOCK * block, 4 * BLOCK * (block + 1), _LINE):
                _prefetch(logits.ctypes.data + line)
    found, least = 0, value(np.int32(low))
    for block in range(len(uppers)):
        if uppers[block] >= low:
            off = _bound(block_missed[block], block_length[block], reach)
            for i in range(block * BLOCK, min((block + 1) * BLOCK, len(logits))):
                if logits[i] + off >= least and (len(allowed) == 0 or allowed[i]):
                    ids[found] = i
                    found += 1
    return found


@njit(error_model="numpy")
def _fetch_early(missed: int, length: int, ids: np.ndarray) -> None:
    """Ask for what will be read: the processor waits for many places of memory at once."""
    for i in ids:
        _prefetch(missed + 4 * np.int64(i))
        _prefetch(length + 4 * np.int64(i))


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
        kept = _survivors(
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
        keys[i] = key(exact[i], ids[i])
        if exact[i] != exact[i]:
            out_ids[:] = 0
            out_logits[:] = np.float32(np.nan)
            return
    if counts[0] >= 0:
        write(keys, settle(keys, counts[0], k, counts[1]), out_ids, out_logits)


@kernel(
    question=ADDRESS, shape=ADDRESS, rest=ADDRESS, tile=ADDRESS, reach=ADDRESS, longest=np.float64, columns=COUNT
)  # fmt: skip
def _ready(pointer: Any, row: int) -> None:
    a = record(pointer)
    tokens, parts = read(a.shape), read(a.shape + 8)
    size = a.columns // GROUP * tokens * TOKEN_BYTES
    _prepare(
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
    question=ADDRESS, shape=ADDRESS, strips=ADDRESS, tile=ADDRESS, logits=ADDRESS, maxima=ADDRESS, vocab=COUNT,
    groups=COUNT,
)  # fmt: skip
def _product(pointer: Any, piece: int) -> None:
    a = record(pointer)
    begin, end = piece * RUN, min((piece + 1) * RUN, a.vocab)
    tokens, parts = read(a.shape), read(a.shape + 8)
    for first in range(begin, end, LANES):
        strip, out = a.strips + first // LANES * a.groups * STRIP, a.logits + 4 * first
        if tokens == 2:
            _two(strip, a.tile, out, a.groups, 4 * a.vocab)
        elif tokens == 4:
            _four(strip, a.tile, out, a.groups, 4 * a.vocab)
        else:
            _eight(strip, a.tile, out, a.groups, 4 * a.vocab)
    blocks = (a.vocab + BLOCK - 1) // BLOCK
    for row in range(read(a.question + ROWS)):
        logits = a.logits + 4 * row * parts * a.vocab
        if parts == 2:
            _add(floats_at(logits, a.vocab), floats_at(logits + 4 * a.vocab, a.vocab), begin, end)
        block_maxima(logits, read(a.question + ALLOWED), a.maxima + 4 * row * blocks, begin, end)


@kernel(
    question=ADDRESS, shape=ADDRESS, logits=ADDRESS, reach=ADDRESS, maxima=ADDRESS, block_missed=ADDRESS,
    block_length=ADDRESS, uppers=ADDRESS, missed=ADDRESS, length=ADDRESS, ids=ADDRESS, lows=ADDRESS, highs=ADDRESS, counts=ADDRESS,
    vocab=COUNT,
)  # fmt: skip
def _search(pointer: Any, row: int) -> None:
    a = record(pointer)
    vocab, blocks = a.vocab, (a.vocab + BLOCK - 1) // BLOCK
    open_ = read(a.question + ALLOWED)
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


_EXACT = {
    "question": ADDRESS, "table": ADDRESS, "ids": ADDRESS, "exact": ADDRESS, "counts": ADDRESS,
    "vocab": COUNT, "columns": COUNT,
}  # fmt: skip


@njit(error_model="numpy")
def _fetch_row(table: np.ndarray, at: int, columns: int) -> None:
    for line in range(2 * at, 2 * (at + columns), _LINE):
        _prefetch(table.ctypes.data + line)


@njit(error_model="numpy")
def _score_f16(table: np.ndarray, h: np.ndarray, ids: np.ndarray, share: int, exact: np.ndarray) -> None:
    for i in range(share * len(ids) // _SHARES, (share + 1) * len(ids) // _SHARES):
        if i + 1 < len(ids):
            _fetch_row(table, np.int64(ids[i + 1]) * len(h), len(h))
        exact[i] = dot_f16(table, np.int64(ids[i]) * len(h), h, 0, len(h))


@njit(error_model="numpy")
def _score_bf16(table: np.ndarray, h: np.ndarray, ids: np.ndarray, share: int, exact: np.ndarray) -> None:
    for i in range(share * len(ids) // _SHARES, (share + 1) * len(ids) // _SHARES):
        if i + 1 < len(ids):
            _fetch_row(table, np.int64(ids[i + 1]) * len(h), len(h))
        exact[i] = dot_bf16(table, np.int64(ids[i]) * len(h), h, 0, len(h))


@kernel(**_EXACT)
def _exact_f16(pointer: Any, piece: int) -> None:
    a = record(pointer)
    row, share = piece // _SHARES, piece % _SHARES
    counts = longs_at(a.counts + row * 16, 2)
    found = max(counts[0] + counts[1], 0)
    h = floats_at(read(a.question + ROWS_AT) + row * a.columns * 4, a.columns)
    table, at = halves_at(a.table, a.vocab * a.columns), 8 * row * a.vocab
    _score_f16(table, h, ints_at(a.ids + at, found), share, floats_at(a.exact + at, found))


@kernel(**_EXACT)
def _exact_bf16(pointer: Any, piece: int) -> None:
    a = record(pointer)
    row, share = piece // _SHARES, piece % _SHARES
    counts = longs_at(a.counts + row * 16, 2)
    found = max(counts[0] + counts[1], 0)
    h = floats_at(read(a.question + ROWS_AT) + row * a.columns * 4, a.columns)
    table, at = halves_at(a.table, a.vocab * a.columns), 8 * row * a.vocab
    _score_bf16(table, h, ints_at(a.ids + at, found), share, floats_at(a.exact + at, found))


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
        self, plane: Plane, format: str, raw: npt.NDArray[np.uint8], team: Team, full: Callable[[Floats], Floats], selection: Selection,
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
            **self._buffers, "question": self._question.words, "shape": self._shape, "table": self._raw, "strips": plane.strips,
            "missed": plane.missed, "length": plane.length, "longest": plane.longest,
            "block_missed": plane.block_missed, "block_length": plane.block_length,
            "vocab": plane.rows, "columns": plane.columns, "groups": plane.columns // GROUP,
        }  # fmt: skip
        exact = _exact_f16 if self._format == "F16" else _exact_bf16
        one, shares = self._pieces[1], self._pieces[_SHARES]
        work = (
            (_ready, one),
            (_product, -(-plane.rows // RUN)),
            (_search, one),
            (exact, shares),
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
            whole = self._selection.candidates(self._full(np.ascontiguousarray(h[failed])), want)
            answer.ids[failed], answer.logits[failed] = whole.ids, whole.logits
        return answer

    def top_k(self, h: Floats, want: TopK) -> Candidates:
        """The same bits as from all logits; `takes(want)` must hold. Log sum exp is NaN."""
        parts = []
        for start in range(0, len(h), MOST):
            rows = h[start : start + MOST]
            answer = self.ask(rows, want)
            self._team.play(self._tape)
            parts.append(self.checked(rows, want, answer))
        return parts[0] if len(parts) == 1 else joined(parts)
