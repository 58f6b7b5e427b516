"""Attention over pages of int8: the same as `attention_floats`, by products of bytes.

A factor x of the other side, be it a query or a row's exponentials times the scales of their values, is
rounded to 15 or 14 bits with one scale, and cut into two bytes: x is about (128 * high + low) * scale. So it
is the pages' eight bits that cost accuracy.

Bit rule: sums of products of bytes are exact; those of high and low bytes become floats and are joined by one
fused multiply-add, high * 128 + low. That is multiplied by the query's scale (its own times that of
attention, rounded) and then by the key's, or by the scale of the row's exponentials in this page.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from ..contract import PAGE
from .attention_page import CACHE_LINE, PIECES, Page
from .attention_row import QUERY, SUMS, emit_fold
from .emit import F32, I8, I32, I64, LANES, VB, VF, Emitter, Value, floats, ints, whole
from .instructions import chosen
from .isa import avx512
from .pagecodes import SCALE, VECTOR, key_strip, scales_at, value_strip
from .rounding import inverse_of, larger_size, largest, peak_of, rounded, scale_of

_SHIFT, _LOW = 7, 127
_SIGNED, _UNSIGNED = 127 * 128 + 63, 127 * 128 + 127  # the largest codes: -127 .. 127 and -64 .. 63, 0 .. 127
_STRIPS = PAGE // LANES  # of keys
_BYTES = ir.VectorType(I8, LANES)
Dot = Callable[[Emitter, Value, Value, Value], Value]  # (total, vector of a strip, factor's four bytes)


def query_bytes(e: Emitter, head_dim: Value) -> Value:
    """Bytes of a rounded query: high ones [H], low ones [H], its scale, what the sums of both begin with."""
    return e.step(whole(12), head_dim, PIECES)


def round_query(e: Emitter, q: Value, to: Value, head_dim: Value) -> None:
    """Round a query, float32 [H] at q, to `query_bytes`."""
    vectors = e.b.sdiv(head_dim, whole(LANES))
    peak = largest(e, q, vectors)
    inverse = inverse_of(e, peak, _SIGNED)
    sums = [e.variable(ints(0)) for _ in range(PIECES)]
    with e.loop(vectors) as i:
        codes = rounded(e, e.load(VF, e.step(q, i, 4 * LANES)), inverse)
        high = e.b.ashr(e.b.add(codes, ints(1 << (_SHIFT - 1))), ints(_SHIFT))
        low = e.b.sub(codes, e.b.shl(high, ints(_SHIFT)))
        for piece, total, at in zip((high, low), sums, (to, e.b.add(to, head_dim)), strict=True):
            e.store(e.b.trunc(piece, _BYTES), e.step(at, i, LANES), align=1)
            e.b.store(e.b.add(e.b.load(total), piece), total)
    after = e.step(to, head_dim, PIECES)
    e.store(scale_of(e, peak, _SIGNED), after)
    for number, total in enumerate(sums):
        count = e.call("llvm.vector.reduce.add.v16i32", I32, e.b.load(total))
        start = e.b.mul(count, ir.Constant(I32, -chosen.SIGNED_BIAS))
        e.store(start, after, 4 + 4 * number)


def scores(e: Emitter, page: Page, rows: list[Value]) -> None:
    """scale * (query . key) of some rows and all keys; the page's values are fetched meanwhile."""
    head_dim, width = page.head_dim, _width(len(rows))
    queries = [e.load(I64, row, QUERY, 8) for row in rows]
    pieces = [[query, e.b.add(query, head_dim)] for query in queries]
    after = [e.step(query, head_dim, PIECES) for query in queries]
    starts = [[e.splat(e.load(I32, at, 4 + 4 * i)) for i in range(PIECES)] for at in after]
    factors = [e.b.fmul(e.splat(e.load(F32, at)), page.scale) for at in after]
    scales = scales_at(e, page.keys, head_dim)
    for first in range(0, _STRIPS, width):
        strips = [key_strip(e, page.keys, head_dim, whole(first + w)) for w in range(width)]
        ahead = e.b.add(page.values, e.b.mul(head_dim, whole(LANES * first)))
        span = whole(0), e.b.sdiv(head_dim, whole(4))
        sums = _sums(e, chosen.dot_signed, strips, pieces, starts, span, ahead)
        for m, totals in enumerate(sums):
            for w, total in enumerate(totals, first):
                score = e.b.fmul(e.b.fmul(total, factors[m]), e.load(VF, scales, SCALE * LANES * w))
                e.store(score, page.powers(e, m), 4 * LANES * w)


def add_values(e: Emitter, page: Page, rows: list[Value], span: tuple[Value, Value]) -> None:
    """Fold the values of the keys in `span` into the rows' sums; the keys ahead are fetched meanwhile."""
    for m in range(len(rows)):
        _round_powers(e, page, m)
    span = e.b.lshr(span[0], whole(2)), e.b.lshr(e.b.add(span[1], whole(3)), whole(2))
    strips, width = e.b.sdiv(page.head_dim, whole(LANES)), _width(len(rows))
    many = e.b.sdiv(strips, whole(width))
    with e.loop(many) as i:
        _add_strips(e, page, rows, span, e.b.mul(i, whole(width)), width)
    if width > 1:
        with e.loop(strips, e.b.mul(many, whole(width))) as i:
            _add_strips(e, page, rows, span, i, 1)


def _round_powers(e: Emitter, page: Page, m: int) -> None:
    """A row's exponentials times the scales of their values, as bytes; 0 stays 0, whatever the scale."""
    scales = scales_at(e, page.values, page.head_dim)
    powers = []
    for w in range(_STRIPS):
        power = e.load(VF, page.powers(e, m), 4 * LANES * w)
        scaled = e.b.fmul(power, e.load(VF, scales, SCALE * LANES * w))
        powers.append(e.b.select(e.b.fcmp_ordered("==", power, floats(0.0)), power, scaled))
    sizes = ints(0)
    for power in powers:
        sizes = larger_size(e, sizes, power)
    peak = peak_of(e, sizes)
    inverse = inverse_of(e, peak, _UNSIGNED)
    e.store(scale_of(e, peak, _UNSIGNED), page.scales(e, m))
    for w, power in enumerate(powers):
        codes = rounded(e, power, inverse)
        pieces = e.b.lshr(codes, ints(_SHIFT)), e.b.and_(codes, ints(_LOW))
        for number, piece in enumerate(pieces):
            e.store(e.b.trunc(piece, _BYTES), page.codes(e, m), PAGE * number + LANES * w)


def _add_strips(
    e: Emitter, page: Page, rows: list[Value], span: tuple[Value, Value], first: Value, width: int
) -> None:
    """The same for `width` strips of columns."""
    strips = [value_strip(e, page.values, e.b.add(first, whole(w))) for w in range(width)]
    pieces = [[e.at(page.codes(e, m), PAGE * i) for i in range(PIECES)] for m in range(len(rows))]
    starts = [[ints(0)] * PIECES] * len(rows)
    ahead = e.step(page.ahead, first, LANES * PAGE)
    sums = _sums(e, _dot_values, strips, pieces, starts, span, ahead)
    for m, (row, totals) in enumerate(zip(rows, sums, strict=True)):
        a, b = (e.splat(e.load(F32, page.weights(e, m), 4 * i)) for i in (0, 1))
        scale = e.splat(e.load(F32, page.scales(e, m)))
        at = e.step(e.load(I64, row, SUMS, 8), first, 4 * LANES)
        for w, total in enumerate(totals):
            old = e.load(VF, at, 4 * LANES * w)
            e.store(emit_fold(e, old, a, e.b.fmul(total, scale), b), at, 4 * LANES * w)


def _dot_values(e: Emitter, total: Value, vector: Value, four: Value) -> Value:
    """Exponentials are never negative."""
    found: Value = chosen.dot_unsigned(e, total, four, vector)
    return found


def _sums(
    e: Emitter, dot: Dot, strips: list[Value], factors: list[list[Value]], starts: list[list[Value]],
    span: tuple[Value, Value], ahead: Value,
) -> list[list[Value]]:  # fmt: skip
    """For each row and strip: the sum of products over the vectors in `span`, 128 * high + low, as floats.

    factors: addresses of each row's high and low bytes; starts: what their sums begin with. As much as is
    read here is fetched from `ahead` on.
    """
    sums = [[[e.variable(start) for start in both] for _ in strips] for both in starts]
    with e.loop(span[1], span[0]) as i:
        for line in range(0, VECTOR * len(strips), CACHE_LINE):
            e.prefetch(e.step(ahead, i, VECTOR * len(strips)), line, cache=2)
        vectors = [e.load(VB, e.step(strip, i, VECTOR)) for strip in strips]
        for addresses, totals in zip(factors, sums, strict=True):
            for piece, address in enumerate(addresses):
                four = e.cast(e.splat(e.load(I32, e.step(address, i, 4))), VB)
                for vector, both in zip(vectors, totals, strict=True):
                    e.b.store(dot(e, e.b.load(both[piece]), vector, four), both[piece])
    return [[_joined(e, *(e.b.load(total) for total in both)) for both in totals] for totals in sums]


def _joined(e: Emitter, high: Value, low: Value) -> Value:
    return e.fma(e.as_float(high), floats(float(1 << _SHIFT)), e.as_float(low))


def _width(rows: int) -> int:
    """Strips to go through at once: sums must fit the registers, and hide their own latency."""
    if chosen is avx512:
        return _STRIPS if rows <= 2 else 2
    return 2 if rows == 1 else 1
