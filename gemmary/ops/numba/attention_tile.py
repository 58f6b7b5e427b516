"""The inner loops of attention: a few query rows against one page of 64 keys.

Bit rules (docs/ops.md): a score sums over the head in order, one fused multiply-add a column, then is scaled; a
page's exponentials are summed by a fixed tree of halves; its values are added in the order of positions. Pages are
folded one after the other. So a row's result depends on the keys that it sees and on nothing else.

"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..contract import PAGE
from .emit import F32, I32, I64, LANES, VF, VI, Emitter, Value, floats, inline, ints, whole
from .pagestore import ELEMENTS, Element

CACHE_LINE = 64
VECTORS = PAGE // LANES
MOST = 6  # rows in registers at once: 24 sums, four vectors of keys, one factor
SCRATCH = MOST * 4 * (PAGE + 2)  # bytes that `page_rows` needs: exponentials and two weights of each row
# A row's record: addresses of its query and of its sums of values (float32 [H]), the positions that it sees, and
# its state: the largest score so far and the sum of exponentials, float32.
QUERY, SUMS, FIRST, LAST, STATE, ROW_BYTES = range(0, 48, 8)
LOWEST = -3.4028234663852886e38  # the maximum of nothing: finite, so that no difference is NaN


def emit_exp(e: Emitter, x: Value) -> Value:
    """`scalar.exp` in sixteen lanes, the same bits."""
    x = e.b.select(e.b.fcmp_ordered("<", x, floats(-87.0)), floats(-87.0), x)
    x = e.b.select(e.b.fcmp_ordered(">", x, floats(88.0)), floats(88.0), x)
    shifted = e.fma(x, floats(1.4426950408889634), floats(12582912.0))
    n = e.b.fsub(shifted, floats(12582912.0))
    r = e.fma(n, floats(2.12194440e-4), e.fma(n, floats(-0.693359375), x))
    p = floats(1.9875691500e-4)
    for c in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 0.5):
        p = e.fma(p, r, floats(c))
    p = e.fma(p, e.b.fmul(r, r), e.b.fadd(r, floats(1.0)))
    # n is in the low bits of `shifted`; the shift leaves nothing else of it.
    power = e.b.add(e.b.shl(e.cast(shifted, VI), ints(23)), ints(127 << 23))
    return e.b.fmul(p, e.cast(power, VF))


def emit_fold(e: Emitter, old: Value, old_weight: Value, new: Value, new_weight: Value) -> Value:
    """new * new_weight + old * old_weight: the second product is rounded, then the sum, once."""
    return e.fma(new, new_weight, e.b.fmul(old, old_weight))


def emit_weights(e: Emitter, old: Value, new: Value) -> tuple[Value, Value, Value]:
    """From two largest scores: the larger, and what the sums below each are multiplied by; one of them is 1."""
    top = _larger(e, old, new)
    return top, emit_exp(e, e.b.fsub(old, top)), emit_exp(e, e.b.fsub(new, top))


def _larger(e: Emitter, a: Value, b: Value) -> Value:
    return e.b.select(e.b.fcmp_ordered(">", b, a), b, a)


def _halved(e: Emitter, vectors: list[Value], join: Any) -> Value:
    """The lower half of 64 lanes joined with the upper half, until one lane is left; that lane everywhere."""
    while len(vectors) > 1:
        half = len(vectors) // 2
        vectors = [join(a, b) for a, b in zip(vectors[:half], vectors[half:], strict=True)]
    vector = vectors[0]
    while vector.type.count > 1:
        vector = join(*e.parts(vector, vector.type.count // 2))
    return e.splat(e.b.extract_element(vector, ir.Constant(I32, 0)))


def _prefetch(e: Emitter, address: Value) -> None:
    """Ask for a line of memory, into the second cache."""
    place = e.b.inttoptr(address, ir.IntType(8).as_pointer())
    how = [ir.Constant(I32, number) for number in (0, 2, 1)]  # to be read, second cache, data
    e.call("llvm.prefetch.p0", ir.VoidType(), place, *how)


def _product(
    e: Emitter, kind: Element, a: list[Value], b: Value, row: Value, begin: Value, end: Value, width: int,
    ahead: Value,
) -> list[list[Value]]:
    """For each a: the sum over i of a[i] * b[i, 0 : 16 * width], in order; b's rows are `row` bytes apart.

    Meanwhile `end` times as many bytes are fetched from `ahead` on into the cache.
    """
    share = kind.size * LANES * width
    sums = [[e.variable(floats(0.0)) for _ in range(width)] for _ in a]
    with e.loop(end, begin) as i:
        at = e.b.add(b, e.b.mul(i, row))
        for line in range(0, share, CACHE_LINE):
            _prefetch(e, e.at(e.step(ahead, i, share), line))
        vectors = kind.widen(e, at, width)
        for address, totals in zip(a, sums, strict=True):
            factor = e.splat(e.load(F32, e.step(address, i, 4)))
            for vector, total in zip(vectors, totals, strict=True):
                e.b.store(e.fma(factor, vector, e.b.load(total)), total)
    return [[e.b.load(total) for total in totals] for totals in sums]


def _scores(e: Emitter, kind: Element, rows: list[Value], keys: Value, head_dim: Value, scale: Value, out: Value, ahead: Value) -> None:
    """out float32 [rows, 64]: scale * (query . key) of some rows and all keys of a page."""
    queries = [e.load(I64, row, QUERY, 8) for row in rows]
    sums = _product(e, kind, queries, keys, whole(kind.size * PAGE), whole(0), head_dim, VECTORS, ahead)
    for m, totals in enumerate(sums):
        for w, total in enumerate(totals):
            e.store(e.b.fmul(total, scale), out, 4 * (PAGE * m + LANES * w))


def _soften(e: Emitter, row: Value, low: Value, high: Value, powers: Value, weights: Value) -> None:
    """Scores float32 [64] become exponentials, 0 outside low .. high - 1; the row's state takes them in.

    weights float32 [2]: what the sum of values so far, and that of this page, are multiplied by.
    """
    seen = _seen(low, high, e)
    parts = [e.load(VF, powers, 4 * LANES * w) for w in range(VECTORS)]
    masked = [e.b.select(s, part, floats(LOWEST)) for s, part in zip(seen, parts, strict=True)]
    peak = _halved(e, masked, lambda a, b: _larger(e, a, b))
    shifted = [emit_exp(e, e.b.fsub(part, peak)) for part in parts]
    exponentials = [e.b.select(s, x, floats(0.0)) for s, x in zip(seen, shifted, strict=True)]
    for w, x in enumerate(exponentials):
        e.store(x, powers, 4 * LANES * w)
    factors = _take_in(e, row, peak, _halved(e, exponentials, e.b.fadd))
    for i, factor in enumerate(factors):
        e.store(e.b.extract_element(factor, ir.Constant(I32, 0)), weights, 4 * i)


def _seen(low: Value, high: Value, e: Emitter) -> list[Value]:
    """For each vector of keys: which lanes are in low .. high - 1."""
    first, count = (e.splat(e.b.trunc(x, I32)) for x in (low, e.b.sub(high, low)))
    lanes = [ir.Constant(VI, [LANES * w + lane for lane in range(LANES)]) for w in range(VECTORS)]
    return [e.b.icmp_unsigned("<", e.b.sub(lane, first), count) for lane in lanes]


def _take_in(e: Emitter, row: Value, peak: Value, total: Value) -> tuple[Value, Value]:
    """The row's state folded with (peak, total); what its sums of values are to be multiplied by."""
    old, old_total = (e.splat(e.load(F32, row, STATE + 4 * i)) for i in (0, 1))
    top, a, b = emit_weights(e, old, peak)
    for i, x in enumerate((top, emit_fold(e, old_total, a, total, b))):
        e.store(e.b.extract_element(x, ir.Constant(I32, 0)), row, STATE + 4 * i)
    return a, b


def _add_values(
    e: Emitter, kind: Element, rows: list[Value], powers: Value, values: Value, head_dim: Value,
    low: Value, high: Value, weights: Value, ahead: Value, column: Value, width: int,
) -> None:  # fmt: skip
    """Fold keys low .. high - 1 into 16 * width columns of the rows' sums of values, from `column` on."""
    a = [e.at(powers, 4 * PAGE * m) for m in range(len(rows))]
    pitch = e.b.mul(head_dim, whole(kind.size))
    sums = _product(e, kind, a, e.step(values, column, kind.size), pitch, low, high, width, e.b.add(ahead, e.b.mul(column, whole(kind.size * PAGE))))
    for m, (row, totals) in enumerate(zip(rows, sums, strict=True)):
        old_weight, new_weight = (e.splat(e.load(F32, weights, 8 * m + 4 * i)) for i in (0, 1))
        at = e.step(e.load(I64, row, SUMS, 8), column, 4)
        for w, total in enumerate(totals):
            folded = emit_fold(e, e.load(VF, at, 4 * LANES * w), old_weight, total, new_weight)
            e.store(folded, at, 4 * LANES * w)


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
    """The interval around all that are not empty; low > high where all are."""
    least, most = whole(PAGE), whole(0)
    for low, high in intervals:
        empty = e.b.icmp_signed("==", low, high)
        low, high = e.b.select(empty, whole(PAGE), low), e.b.select(empty, whole(0), high)
        least = e.b.select(e.b.icmp_signed("<", low, least), low, least)
        most = e.b.select(e.b.icmp_signed(">", high, most), high, most)
    return least, most


def _page_rows(
    e: Emitter, kind: Element, rows: list[Value], keys: Value, values: Value, base: Value, head_dim: Value,
    scale: Value, scratch: Value, ahead: Value,
) -> None:  # fmt: skip
    intervals = [_interval(e, row, base) for row in rows]
    low, high = _hull(e, intervals)
    weights = e.at(scratch, 4 * PAGE * MOST)
    with e.b.if_then(e.b.icmp_signed("<", low, high)):
        _scores(e, kind, rows, keys, head_dim, e.splat(scale), scratch, values)
        for m, row in enumerate(rows):
            _soften(e, row, *intervals[m], e.at(scratch, 4 * PAGE * m), e.at(weights, 8 * m))
        blocks = e.b.sdiv(head_dim, whole(PAGE))
        shared = (rows, scratch, values, head_dim, low, high, weights, ahead)
        with e.loop(blocks) as i:
            _add_values(e, kind, *shared, e.b.mul(i, whole(PAGE)), VECTORS)
        with e.loop(e.b.sdiv(head_dim, whole(LANES)), e.b.mul(blocks, whole(VECTORS))) as i:
            _add_values(e, kind, *shared, e.b.mul(i, whole(LANES)), 1)


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def take_page(
    _typing: Any, element: Any, rows: Any, count: Any, keys: Any, values: Any, base: Any, head_dim: Any,
    scale: Any, scratch: Any, ahead: Any,
) -> Any:  # fmt: skip
    """`count` rows (records at `rows`) take in a page: one head's keys and values, positions from `base` on.

    scratch: SCRATCH bytes, overwritten. ahead: keys that will be wanted next, fetched into the cache meanwhile.
    """

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        e, kind = Emitter(builder), ELEMENTS[element.literal_value]
        rows, count, *page = args[1:]

        def some(first: Value, number: int) -> None:
            _page_rows(e, kind, [e.at(first, ROW_BYTES * m) for m in range(number)], *page)

        full = e.b.sdiv(count, whole(MOST))
        with e.loop(full) as i:
            some(e.step(rows, i, ROW_BYTES * MOST), MOST)
        row, left = e.step(rows, full, ROW_BYTES * MOST), e.b.srem(count, whole(MOST))
        for number in (4, 2, 1):
            enough = e.b.icmp_signed(">=", left, whole(number))
            with e.b.if_then(enough):
                some(row, number)
            taken = e.b.select(enough, whole(number), whole(0))
            row, left = e.step(row, taken, ROW_BYTES), e.b.sub(left, taken)
        return context.get_dummy_value()

    return types.void(element, *([types.intp] * 6), types.float32, types.intp, types.intp), generate


@inline(types.void, *([types.intp] * 5))
def place_row(e: Emitter, row: Value, query: Value, sums: Value, first: Value, last: Value) -> None:
    """Write a row's record, but for its state."""
    for field, number in ((QUERY, query), (SUMS, sums), (FIRST, first), (LAST, last)):
        e.store(number, row, field, 8)


@inline(types.void, types.intp, types.intp)
def begin_row(e: Emitter, row: Value, head_dim: Value) -> None:
    """A row has seen nothing: zero sums of values, and a state to match."""
    e.store(ir.Constant(F32, LOWEST), row, STATE)
    e.store(ir.Constant(F32, 0.0), row, STATE + 4)
    sums = e.load(I64, row, SUMS, 8)
    with e.loop(e.b.sdiv(head_dim, whole(LANES))) as i:
        e.store(floats(0.0), e.step(sums, i, 4 * LANES))


@inline(types.void, types.intp, types.intp)
def leave_row(e: Emitter, row: Value, head_dim: Value) -> None:
    """Write the row's state behind its sums of values: a partial result."""
    state = e.load(I64, row, STATE)
    e.store(state, e.step(e.load(I64, row, SUMS, 8), head_dim, 4), 0, 4)


@inline(types.void, types.intp, types.intp, types.intp)
def fold_part(e: Emitter, row: Value, part: Value, head_dim: Value) -> None:
    """Fold a partial result of one page (float32 [H], then its state) into a row."""
    state = e.step(part, head_dim, 4)
    a, b = _take_in(e, row, *(e.splat(e.load(F32, state, 4 * i)) for i in (0, 1)))
    sums = e.load(I64, row, SUMS, 8)
    with e.loop(e.b.sdiv(head_dim, whole(LANES))) as i:
        at = e.step(sums, i, 4 * LANES)
        e.store(emit_fold(e, e.load(VF, at), a, e.load(VF, e.step(part, i, 4 * LANES)), b), at)


@inline(types.void, types.intp, types.intp)
def finish_row(e: Emitter, row: Value, head_dim: Value) -> None:
    """Sums of values / sum of exponentials, in place. -0 counts as 0: masked keys may turn one into the other."""
    total = e.splat(e.load(F32, row, STATE + 4))
    sums = e.load(I64, row, SUMS, 8)
    with e.loop(e.b.sdiv(head_dim, whole(LANES))) as i:
        at = e.step(sums, i, 4 * LANES)
        e.store(e.b.fdiv(e.b.fadd(e.load(VF, at), floats(0.0)), total), at)


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def frame(_typing: Any, nbytes: Any) -> Any:
    """The address of that many bytes of the running kernel's frame, on a cache line's border."""

    def generate(_context: Any, builder: Any, _signature: Any, _args: Any) -> Any:
        with builder.goto_entry_block():
            place = builder.alloca(ir.IntType(8), size=whole(nbytes.literal_value))
            place.align = 64
        return builder.ptrtoint(place, I64)

    return types.intp(nbytes), generate
