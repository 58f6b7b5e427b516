"""Products over float rows as they lie in the file: F32, F16, BF16 times float32 activations.

Bit rule: sixteen lanes (lane = column mod 16) of fused multiply-adds, a fixed tree of halves, then the
columns left over, in order, in a sum of their own that is added last.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic

from .emit import F32, I16, I64, LANES, VF, VI, Emitter, Value, floats, ir, whole
from .instructions import chosen

ROWS, TOKENS = 4, 4  # of a tile: sixteen sums are in registers
BYTES = {"F32": 4, "F16": 2, "BF16": 2}


def emit_float_tile(
    e: Emitter,
    isa: Any,
    form: str,
    shape: tuple[int, int],
    w: Value,
    x: Value,
    out: Value,
    columns: Value,
    row: Value,
) -> None:
    """out[m * row + r] = row r at w . token m at x, for a tile of shape (rows, tokens); row counts bytes."""
    for (r, m), total in emit_dots(e, isa, form, shape, w, x, columns).items():
        e.store(total, e.b.add(out, e.b.mul(row, ir.Constant(I64, m))), 4 * r)


def emit_dots(
    e: Emitter, isa: Any, form: str, shape: tuple[int, int], w: Value, x: Value, columns: Value
) -> dict[tuple[int, int], Value]:
    """Row r at w . token m at x by (r, m), for a tile of shape (rows, tokens)."""
    rows, tokens = shape
    places = [(r, m) for r in range(rows) for m in range(tokens)]
    wide = {place: e.variable(floats(0.0)) for place in places}
    rest = {place: e.variable(ir.Constant(F32, 0.0)) for place in places}
    w_rows = [e.b.add(w, e.b.mul(columns, whole(r * BYTES[form]))) for r in range(rows)]
    x_rows = [e.b.add(x, e.b.mul(columns, whole(4 * m))) for m in range(tokens)]
    vectors = e.b.lshr(columns, whole(4))
    with e.loop(vectors) as i:
        weights = [_vector(e, isa, form, e.step(at, i, LANES * BYTES[form])) for at in w_rows]
        values = [e.load(VF, e.step(at, i, 4 * LANES)) for at in x_rows]
        for r, m in places:
            e.b.store(e.fma(weights[r], values[m], e.b.load(wide[r, m])), wide[r, m])
    with e.loop(columns, e.b.shl(vectors, whole(4))) as i:
        for r, m in places:
            value = _scalar(e, isa, form, e.step(w_rows[r], i, BYTES[form]))
            product = e.call(
                "llvm.fma.f32", F32, value, e.load(F32, e.step(x_rows[m], i, 4)), e.b.load(rest[r, m])
            )
            e.b.store(product, rest[r, m])
    return {place: e.b.fadd(tree(e, e.b.load(wide[place])), e.b.load(rest[place])) for place in places}


def tree(e: Emitter, lanes: Value) -> Value:
    """((l0 + l8) + (l4 + l12)) + ...: halves added until one is left."""
    count = LANES
    while count > 1:
        count //= 2
        lanes = e.b.fadd(e.part(lanes, 0, count), e.part(lanes, count, count))
    return e.b.extract_element(lanes, ir.Constant(ir.IntType(32), 0))


def widened(e: Emitter, isa: Any, form: str, stored: Value) -> Value:
    """Sixteen stored numbers as float32."""
    if form == "F16":
        return isa.half(e, stored)
    if form == "BF16":
        return e.cast(e.b.shl(e.b.zext(stored, VI), ir.Constant(VI, [16] * LANES)), VF)
    return stored


def _vector(e: Emitter, isa: Any, form: str, address: Value) -> Value:
    kind = VF if form == "F32" else ir.VectorType(I16, LANES)
    return widened(e, isa, form, e.load(kind, address, 0, BYTES[form]))


def _scalar(e: Emitter, isa: Any, form: str, address: Value) -> Value:
    kind = F32 if form == "F32" else I16
    lanes = widened(e, isa, form, e.splat(e.load(kind, address, 0, BYTES[form])))
    return e.b.extract_element(lanes, ir.Constant(ir.IntType(32), 0))


def _float_tile(
    _typing: Any, form: Any, rows: Any, tokens: Any, w: Any, x: Any, out: Any, columns: Any, row: Any
) -> Any:
    """`emit_float_tile` for a format and a shape that are known when this is compiled."""
    shape = rows.literal_value, tokens.literal_value

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        emit_float_tile(Emitter(builder), chosen, form.literal_value, shape, *args[3:])
        return context.get_dummy_value()

    return types.void(form, rows, tokens, *([types.intp] * 5)), generate


float_tile: Any = intrinsic(prefer_literal=True)(_float_tile)
