"""The inner loops of attention: query rows against one page of 64 keys.

Bit rules (docs/ops.md): a score sums over the head in order, one fused multiply-add a column, and is then
scaled; a page's exponentials are summed by a fixed tree of halves; its values are added in the order of
positions. What pages give is folded in their order. So a row's result depends on the keys that it sees and
on nothing else, as long as all values are finite: a masked value that is not reaches its neighbours as 0
times itself.

Masked keys count as 0 times their values, and pages without a visible key as nothing at all: that changes
no more than the sign of a zero, which `finish_row` evens out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..contract import PAGE
from .attention_row import FIRST, LAST, LOWEST, QUERY, ROW_BYTES, SUMS, emit_fold, larger, take_in
from .elementary import emit_exp
from .emit import F32, I32, I64, LANES, VF, VI, Emitter, Value, floats, whole
from .instructions import chosen
from .isa import avx512
from .pagestore import ELEMENTS, VECTORS, Element

MOST = 6  # rows in registers at once
SCRATCH = MOST * 4 * (PAGE + 2)  # bytes: exponentials and two weights of each row
_CACHE_LINE = 64
Read = Callable[[Value], Value]  # of an address: sixteen floats


def _halved(e: Emitter, vectors: list[Value], join: Callable[[Value, Value], Value]) -> Value:
    """The lower half of 64 lanes joined with the upper half, until one lane is left; that lane everywhere."""
    while len(vectors) > 1:
        half = len(vectors) // 2
        vectors = [join(a, b) for a, b in zip(vectors[:half], vectors[half:], strict=True)]
    vector = vectors[0]
    while vector.type.count > 1:
        vector = join(*e.parts(vector, vector.type.count // 2))
    return e.splat(e.b.extract_element(vector, ir.Constant(I32, 0)))


@dataclass(frozen=True)
class _Page:
    """One head's part of a page, and what all rows share; see `take_page`."""

    kind: Element
    keys: Value
    values: Value
    base: Value
    head_dim: Value
    scale: Value
    scratch: Value
    ahead: Value

    def powers(self, e: Emitter, m: int) -> Value:
        """Where the scores, later exponentials, of a row are: float32 [64]."""
        return e.at(self.scratch, 4 * PAGE * m)

    def weights(self, e: Emitter, m: int) -> Value:
        """Where the two weights of a row are."""
        return e.at(self.scratch, 4 * PAGE * MOST + 8 * m)


def _product(
    e: Emitter, a: list[Value], b: Value, pitch: Value, reads: list[Read], span: tuple[Value, Value],
    ahead: tuple[Value, int],
) -> list[list[Value]]:  # fmt: skip
    """For each a, and each vector that `reads` make of row i of b: the sum of a[i] * vector, in order.

    i goes over `span`; rows are `pitch` bytes apart. Of ahead = (address, n), n bytes are fetched for each i.
    """
    sums = [[e.variable(floats(0.0)) for _ in reads] for _ in a]
    with e.loop(span[1], span[0]) as i:
        for line in range(0, ahead[1], _CACHE_LINE):
            e.prefetch(e.step(ahead[0], i, ahead[1]), line, cache=2)
        row = e.b.add(b, e.b.mul(i, pitch))
        vectors = [read(row) for read in reads]
        for address, totals in zip(a, sums, strict=True):
            factor = e.splat(e.load(F32, e.step(address, i, 4)))
            for vector, total in zip(vectors, totals, strict=True):
                e.b.store(e.fma(factor, vector, e.b.load(total)), total)
    return [[e.b.load(total) for total in totals] for totals in sums]


def _width(rows: int) -> int:
    """Vectors of 64 numbers to multiply at once: sums must fit the registers, and hide their own latency."""
    return VECTORS if chosen is avx512 else {1: VECTORS, 2: VECTORS // 2}.get(rows, 1)


def _reads(e: Emitter, kind: Element, first: int, width: int) -> list[Read]:
    """Vectors first .. first + width - 1 of the 64 numbers at an address."""

    def read(w: int) -> Read:
        return lambda address: kind.widen(e, address, w)

    return [read(w) for w in range(first, first + width)]


def _scores(e: Emitter, page: _Page, rows: list[Value]) -> None:
    """scale * (query . key) of some rows and all keys; the page's values are fetched meanwhile."""
    kind, size = page.kind, page.kind.size
    queries = [e.load(I64, row, QUERY, 8) for row in rows]
    span, width = (whole(0), page.head_dim), _width(len(rows))
    for first in range(0, VECTORS, width):
        ahead = e.b.add(page.values, e.b.mul(page.head_dim, whole(size * LANES * first)))
        sums = _product(
            e, queries, page.keys, whole(size * PAGE), _reads(e, kind, first, width), span,
            (ahead, size * LANES * width),
        )  # fmt: skip
        for m, totals in enumerate(sums):
            for w, total in enumerate(totals):
                e.store(e.b.fmul(total, page.scale), page.powers(e, m), 4 * LANES * (first + w))


def _soften(e: Emitter, page: _Page, row: Value, m: int, low: Value, high: Value) -> None:
    """Scores become exponentials, 0 outside low .. high - 1, and the row's state takes them in."""
    seen = _seen(e, low, high)
    scores = [e.load(VF, page.powers(e, m), 4 * LANES * w) for w in range(VECTORS)]
    masked = [e.b.select(s, x, floats(LOWEST)) for s, x in zip(seen, scores, strict=True)]
    peak = _halved(e, masked, lambda a, b: larger(e, a, b))
    powers = [emit_exp(e, e.b.fsub(x, peak)) for x in scores]
    powers = [e.b.select(s, x, floats(0.0)) for s, x in zip(seen, powers, strict=True)]
    for w, x in enumerate(powers):
        e.store(x, page.powers(e, m), 4 * LANES * w)
    for i, weight in enumerate(take_in(e, row, peak, _halved(e, powers, e.b.fadd))):
        e.store(e.b.extract_element(weight, ir.Constant(I32, 0)), page.weights(e, m), 4 * i)


def _seen(e: Emitter, low: Value, high: Value) -> list[Value]:
    """For each vector of keys: which lanes are in low .. high - 1."""
    first, count = (e.splat(e.b.trunc(x, I32)) for x in (low, e.b.sub(high, low)))
    lanes = [ir.Constant(VI, [LANES * w + lane for lane in range(LANES)]) for w in range(VECTORS)]
    return [e.b.icmp_unsigned("<", e.b.sub(lane, first), count) for lane in lanes]


def _add_values(e: Emitter, page: _Page, rows: list[Value], span: tuple[Value, Value]) -> None:
    """Fold the values of the keys in `span` into the rows' sums; the keys ahead are fetched meanwhile."""
    blocks, width = e.b.sdiv(page.head_dim, whole(PAGE)), _width(len(rows))
    with e.loop(blocks) as i:
        for first in range(0, VECTORS, width):
            reads = _reads(e, page.kind, first, width)
            _add_columns(e, page, rows, span, e.b.mul(i, whole(PAGE)), first, reads)
    with e.loop(e.b.sdiv(page.head_dim, whole(LANES)), e.b.mul(blocks, whole(VECTORS))) as i:
        alone = [lambda address: page.kind.widen_alone(e, address)]
        _add_columns(e, page, rows, span, e.b.mul(i, whole(LANES)), 0, alone)


def _add_columns(
    e: Emitter, page: _Page, rows: list[Value], span: tuple[Value, Value], column: Value, first: int,
    reads: list[Read],
) -> None:  # fmt: skip
    """The same for some vectors of columns, from column + 16 * first; `reads` want `column`'s address."""
    size = page.kind.size
    ahead = e.step(page.ahead, e.b.add(column, whole(LANES * first)), size * PAGE)
    sums = _product(
        e, [page.powers(e, m) for m in range(len(rows))], e.step(page.values, column, size),
        e.b.mul(page.head_dim, whole(size)), reads, span, (ahead, size * LANES * len(reads)),
    )  # fmt: skip
    for m, (row, totals) in enumerate(zip(rows, sums, strict=True)):
        a, b = (e.splat(e.load(F32, page.weights(e, m), 4 * i)) for i in (0, 1))
        at = e.at(e.step(e.load(I64, row, SUMS, 8), column, 4), 4 * LANES * first)
        for w, total in enumerate(totals):
            e.store(emit_fold(e, e.load(VF, at, 4 * LANES * w), a, total, b), at, 4 * LANES * w)


def _interval(e: Emitter, row: Value, base: Value) -> tuple[Value, Value]:
    """What a row sees of 64 positions from `base` on: low .. high - 1, equal where nothing."""
    low = _held(e, e.b.sub(e.load(I64, row, FIRST, 8), base), whole(0))
    high = _held(e, e.b.sub(e.load(I64, row, LAST, 8), e.b.sub(base, whole(1))), low)
    return low, high


def _held(e: Emitter, x: Value, least: Value) -> Value:
    """x held to [least, 64]."""
    x = e.b.select(e.b.icmp_signed("<", x, least), least, x)
    return e.b.select(e.b.icmp_signed(">", x, whole(PAGE)), whole(PAGE), x)


def _hull(e: Emitter, intervals: list[tuple[Value, Value]]) -> tuple[Value, Value]:
    """The interval around all that are not empty; its low is above its high where all are."""
    least, most = whole(PAGE), whole(0)
    for low, high in intervals:
        empty = e.b.icmp_signed("==", low, high)
        low, high = e.b.select(empty, whole(PAGE), low), e.b.select(empty, whole(0), high)
        least = e.b.select(e.b.icmp_signed("<", low, least), low, least)
        most = e.b.select(e.b.icmp_signed(">", high, most), high, most)
    return least, most


def _take_rows(e: Emitter, page: _Page, rows: list[Value]) -> None:
    """Some rows take in a page. Nothing is read where none sees anything of it."""
    intervals = [_interval(e, row, page.base) for row in rows]
    low, high = _hull(e, intervals)
    with e.b.if_then(e.b.icmp_signed("<", low, high)):
        _scores(e, page, rows)
        for m, row in enumerate(rows):
            _soften(e, page, row, m, *intervals[m])
        _add_values(e, page, rows, (low, high))


def _take_page(
    _typing: Any, element: Any, rows: Any, count: Any, keys: Any, values: Any, base: Any, head_dim: Any,
    scale: Any, scratch: Any, ahead: Any,
) -> Any:  # fmt: skip
    kind = ELEMENTS[element.literal_value]

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        e = Emitter(builder)
        _, row, count, keys, values, base, head_dim, scale, scratch, ahead = args
        page = _Page(kind, keys, values, base, head_dim, e.splat(scale), scratch, ahead)

        def some(first: Value, number: int) -> None:
            _take_rows(e, page, [e.at(first, ROW_BYTES * m) for m in range(number)])

        full, left = e.b.sdiv(count, whole(MOST)), e.b.srem(count, whole(MOST))
        with e.loop(full) as i:
            some(e.step(row, i, ROW_BYTES * MOST), MOST)
        row = e.step(row, full, ROW_BYTES * MOST)
        for number in (4, 2, 1):
            enough = e.b.icmp_signed(">=", left, whole(number))
            with e.b.if_then(enough):
                some(row, number)
            taken = e.b.select(enough, whole(number), whole(0))
            row, left = e.step(row, taken, ROW_BYTES), e.b.sub(left, taken)
        return context.get_dummy_value()

    return types.void(element, *([types.intp] * 6), types.float32, types.intp, types.intp), generate


# (element, rows, count, keys, values, base, head_dim, scale, scratch, ahead): `count` rows, whose records are
# at `rows`, take in a page: one head's keys and values, positions from `base` on. SCRATCH bytes at `scratch`
# are overwritten; the keys at `ahead` are fetched into the cache meanwhile.
take_page: Any = intrinsic(prefer_literal=True)(_take_page)
