"""What attention knows of a query row while it goes through pages, and how results of pages are folded.

A row has a sum of values (float32 [H]) and a state: the largest score so far and the sum of exponentials.
Folding in the next ones multiplies both sums by what brings them to the common largest score, one of the
two by 1.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .elementary import emit_exp
from .emit import F32, I32, I64, LANES, VF, Emitter, Value, floats, inline, whole

LOWEST = -3.4028234663852886e38  # the maximum of nothing: finite, so that no difference is NaN

# A record: addresses of the row's query and of its sum of values, the first and the last position that it
# sees, and its state.
QUERY, SUMS, FIRST, LAST, STATE, ROW_BYTES = range(0, 48, 8)


def emit_fold(e: Emitter, old: Value, old_weight: Value, new: Value, new_weight: Value) -> Value:
    """new * new_weight + old * old_weight: the second product is rounded, then the sum, once."""
    return e.fma(new, new_weight, e.b.fmul(old, old_weight))


def larger(e: Emitter, a: Value, b: Value) -> Value:
    """The larger in each lane; a where one of them is NaN."""
    return e.b.select(e.b.fcmp_ordered(">", b, a), b, a)


def take_in(e: Emitter, row: Value, peak: Value, total: Value) -> tuple[Value, Value]:
    """Fold (peak, total) into the row's state. What its sum of values, and the new one, are multiplied by."""
    old, old_total = (e.splat(e.load(F32, row, STATE + 4 * i)) for i in (0, 1))
    top = larger(e, old, peak)
    a, b = emit_exp(e, e.b.fsub(old, top)), emit_exp(e, e.b.fsub(peak, top))
    for i, x in enumerate((top, emit_fold(e, old_total, a, total, b))):
        e.store(e.b.extract_element(x, ir.Constant(I32, 0)), row, STATE + 4 * i)
    return a, b


@inline(types.void, *([types.intp] * 5))
def place_row(e: Emitter, row: Value, query: Value, sums: Value, first: Value, last: Value) -> None:
    """Write a row's record, but for its state."""
    for field, number in ((QUERY, query), (SUMS, sums), (FIRST, first), (LAST, last)):
        e.store(number, row, field, 8)


@inline(types.void, types.intp, types.intp)
def begin_row(e: Emitter, row: Value, head_dim: Value) -> None:
    """A row has seen nothing: its sums of values are 0, and its state fits."""
    e.store(ir.Constant(F32, LOWEST), row, STATE)
    e.store(ir.Constant(F32, 0.0), row, STATE + 4)
    sums = e.load(I64, row, SUMS, 8)
    with e.loop(e.b.sdiv(head_dim, whole(LANES))) as i:
        e.store(floats(0.0), e.step(sums, i, 4 * LANES))


@inline(types.void, types.intp, types.intp)
def leave_row(e: Emitter, row: Value, head_dim: Value) -> None:
    """Write the row's state behind its sums of values: a partial result."""
    state = e.load(I64, row, STATE)
    e.store(state, e.step(e.load(I64, row, SUMS, 8), head_dim, 4))


@inline(types.void, types.intp, types.intp, types.intp)
def fold_part(e: Emitter, row: Value, part: Value, head_dim: Value) -> None:
    """Fold a partial result (float32 [H], then its state) into a row."""
    state = e.step(part, head_dim, 4)
    a, b = take_in(e, row, *(e.splat(e.load(F32, state, 4 * i)) for i in (0, 1)))
    sums = e.load(I64, row, SUMS, 8)
    with e.loop(e.b.sdiv(head_dim, whole(LANES))) as i:
        at = e.step(sums, i, 4 * LANES)
        e.store(emit_fold(e, e.load(VF, at), a, e.load(VF, e.step(part, i, 4 * LANES)), b), at)


@inline(types.void, types.intp, types.intp)
def finish_row(e: Emitter, row: Value, head_dim: Value) -> None:
    """Sums of values / sum of exponentials, in place; -0 counts as 0."""
    total = e.splat(e.load(F32, row, STATE + 4))
    sums = e.load(I64, row, SUMS, 8)
    with e.loop(e.b.sdiv(head_dim, whole(LANES))) as i:
        at = e.step(sums, i, 4 * LANES)
        e.store(e.b.fdiv(e.b.fadd(e.load(VF, at), floats(0.0)), total), at)


def _frame(_typing: Any, nbytes: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, _args: Any) -> Any:
        with builder.goto_entry_block():
            place = builder.alloca(ir.IntType(8), size=whole(nbytes.literal_value))
            place.align = 64
        return builder.ptrtoint(place, I64)

    return types.intp(nbytes), generate


frame: Any = intrinsic(prefer_literal=True)(_frame)  # (n) -> address of n bytes of the running kernel's frame
