"""The inner loops of attention: query rows against one page of 64 keys.

Bit rules (docs/ops.md): scores and sums of values are as `attention_floats` and `attention_codes` say; a
page's exponentials are summed by a fixed tree of halves. What pages give is folded in their order. So a row's
result depends on the keys that it sees and on nothing else, as long as all values are finite: a masked value
that is not reaches its neighbours as 0 times itself.

Masked keys count as 0 times their values, and pages without a visible key as nothing at all: that changes
no more than the sign of a zero, which `finish_row` evens out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..contract import PAGE
from . import attention_codes, attention_floats
from .attention_page import MOST, Page
from .attention_row import FIRST, LAST, LOWEST, ROW_BYTES, larger, take_in
from .elementary import emit_exp
from .emit import I32, I64, LANES, VF, VI, Emitter, Value, floats, whole
from .pagestore import CODES, ELEMENTS, VECTORS


def _halved(e: Emitter, vectors: list[Value], join: Callable[[Value, Value], Value]) -> Value:
    """The lower half of 64 lanes joined with the upper half, until one lane is left; that lane everywhere."""
    while len(vectors) > 1:
        half = len(vectors) // 2
        vectors = [join(a, b) for a, b in zip(vectors[:half], vectors[half:], strict=True)]
    vector = vectors[0]
    while vector.type.count > 1:
        vector = join(*e.parts(vector, vector.type.count // 2))
    return e.splat(e.b.extract_element(vector, ir.Constant(I32, 0)))


def _soften(e: Emitter, page: Page, row: Value, m: int, low: Value, high: Value) -> None:
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


def _take_rows(e: Emitter, element: str, page: Page, rows: list[Value]) -> None:
    """Some rows take in a page. Nothing is read where none sees anything of it."""
    intervals = [_interval(e, row, page.base) for row in rows]
    low, high = _hull(e, intervals)
    with e.b.if_then(e.b.icmp_signed("<", low, high)):
        if element == CODES:
            attention_codes.scores(e, page, rows)
        else:
            attention_floats.scores(e, ELEMENTS[element], page, rows)
        for m, row in enumerate(rows):
            _soften(e, page, row, m, *intervals[m])
        if element == CODES:
            attention_codes.add_values(e, page, rows, (low, high))
        else:
            attention_floats.add_values(e, ELEMENTS[element], page, rows, (low, high))


def _take_page(
    _typing: Any, element: Any, rows: Any, count: Any, keys: Any, values: Any, base: Any, head_dim: Any,
    scale: Any, scratch: Any, ahead: Any,
) -> Any:  # fmt: skip
    name = element.literal_value

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        e = Emitter(builder)
        _, row, count, keys, values, base, head_dim, scale, scratch, ahead = args
        page = Page(keys, values, base, head_dim, e.splat(scale), scratch, ahead)

        def some(first: Value, number: int) -> None:
            _take_rows(e, name, page, [e.at(first, ROW_BYTES * m) for m in range(number)])

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


def _query_bytes(_typing: Any, element: Any, head_dim: Any) -> Any:
    codes = element.literal_value == CODES

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return attention_codes.query_bytes(Emitter(builder), args[1]) if codes else whole(0)

    return types.intp(element, types.intp), generate


def _round_query(_typing: Any, element: Any, q: Any, to: Any, head_dim: Any) -> Any:
    codes = element.literal_value == CODES

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        _, q, to, head_dim = args
        if not codes:
            return q
        attention_codes.round_query(Emitter(builder), q, to, head_dim)
        return to

    return types.intp(element, *([types.intp] * 3)), generate


query_bytes: Any = intrinsic(prefer_literal=True)(
    _query_bytes
)  # (element, head_dim): what `round_query` needs

# (element, q, to, head_dim) -> address of the query at q as `take_page` wants it; it may be written to `to`
round_query: Any = intrinsic(prefer_literal=True)(_round_query)

# (element, rows, count, keys, values, base, head_dim, scale, scratch, ahead): `count` rows, whose records are
# at `rows`, take in a page: one head's keys and values, positions from `base` on. SCRATCH bytes at `scratch`
# are overwritten; the keys at `ahead` are fetched into the cache meanwhile.
take_page: Any = intrinsic(prefer_literal=True)(_take_page)
