"""The inner loop of every quantized product: one strip of sixteen rows times a tile of tokens.

Bit rules (docs/ops.md): the integer sum of a group is exact; groups are added in the order of columns, each
with one fused multiply-add of (sum, weight scale * activation scale), then, where the format has offsets, one
of (sum of activations, offset * activation scale). A token's result is the same in a tile of any size.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic

from .emit import F32, I32, LANES, VI, Emitter, Value, floats, ints, ir
from .instructions import chosen
from .strips import LAYOUTS, Group, Layout

# A tile of M tokens holds for each 32 columns: codes int8 [8][M][4], then M each of: scale float32, minus the
# sum of the codes int32, and minus the sums of the first and the second 16 codes.
TOKEN_BYTES = 32 + 4 + 3 * 4
_SCALE, _SUM, _SUM_16 = 32, 36, 40

# A large tile computes so long on each block that the processor does not look far enough ahead by itself.
_PREFETCHED, _AHEAD = 4, 8192


def emit_tile(
    e: Emitter,
    isa: Any,
    layout: Layout,
    tokens: int,
    w: Value,
    x: Value,
    out: Value,
    blocks: Value,
    row: Value,
) -> None:
    """out[m * row + lane] = strip at w times token m of the tile at x; row counts bytes."""
    totals = [e.variable(floats(0.0)) for _ in range(tokens)]
    shared = layout.read_header(e, isa, w) if layout.once else ()
    first = e.at(w, layout.header) if layout.once else w
    with e.loop(blocks) as i:
        base = e.step(first, i, layout.nbytes)
        if tokens >= _PREFETCHED:
            for line in range(0, layout.nbytes, 64):
                e.prefetch(base, _AHEAD + line)
        header = shared if layout.once else layout.read_header(e, isa, base)
        tile = e.step(x, i, layout.groups * tokens * TOKEN_BYTES)
        if layout.groups == 1:
            _add_group(e, isa, layout.read_group(e, isa, base, header), tile, totals)
        else:
            with e.loop(ir.Constant(i.type, layout.groups)) as g:
                group = layout.read_group(
                    e, isa, e.at(e.step(base, g, layout.group_bytes), layout.header), header
                )
                _add_group(e, isa, group, e.step(tile, g, tokens * TOKEN_BYTES), totals)
    for m, total in enumerate(totals):
        e.store(e.b.load(total), e.b.add(out, e.b.mul(row, ir.Constant(row.type, m))))


def _add_group(e: Emitter, isa: Any, group: Group, x: Value, totals: list[Value]) -> None:
    tokens, spans = len(totals), len(group.scales)
    for part, scale in enumerate(group.scales):
        at = tokens * (_SUM if spans == 1 else _SUM_16 + 4 * part)
        sums = _integer_sums(e, isa, group, x, tokens, (8 * part // spans, 8 * (part + 1) // spans), at)
        for m, total in enumerate(totals):
            step = e.splat(e.load(F32, x, tokens * _SCALE + 4 * m))
            product = e.fma(e.as_float(sums[m]), e.b.fmul(scale, step), e.b.load(total))
            if group.negative_offset is not None:
                count = e.as_float(e.splat(e.load(I32, x, tokens * _SUM + 4 * m)))
                product = e.fma(count, e.b.fmul(group.negative_offset, step), product)
            e.b.store(product, total)


def _integer_sums(
    e: Emitter, isa: Any, group: Group, x: Value, tokens: int, vectors: tuple[int, int], minus_sums: int
) -> list[Value]:
    """Exact sums of codes times activations over some of the eight vectors, zero points taken off."""
    zero = isa.SIGNED_BIAS if group.signed else group.zero
    dot = isa.dot_signed if group.signed else isa.dot_unsigned
    sums = [_start(e, zero, x, minus_sums + 4 * m) for m in range(tokens)]
    if tokens > 1 and hasattr(isa, "dot_pairs"):  # an instruction for several tokens at once
        codes = [group.codes(j) for j in range(*vectors)]
        return isa.dot_pairs(e, sums, codes, e.at(x, 4 * tokens * vectors[0]))
    for j in range(*vectors):
        codes = group.codes(j)
        for m in range(tokens):
            sums[m] = dot(e, sums[m], codes, e.splat(e.load(I32, x, (j * tokens + m) * 4)))
    return sums


def _start(e: Emitter, zero: int, x: Value, minus_sum: int) -> Value:
    """zero * minus the sum of the activations, in each lane; zero is 0 or a power of two."""
    if not zero:
        return ints(0)
    return e.b.shl(e.splat(e.load(I32, x, minus_sum)), ir.Constant(VI, [zero.bit_length() - 1] * LANES))


def _typed_tile(_typing: Any, form: Any, tokens: Any, w: Any, x: Any, out: Any, blocks: Any, row: Any) -> Any:
    """`emit_tile` for a format and a number of tokens that are known when this is compiled."""
    layout = LAYOUTS[form.literal_value]

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        emit_tile(Emitter(builder), chosen, layout, tokens.literal_value, *args[2:])
        return context.get_dummy_value()

    return types.void(form, tokens, *([types.intp] * 5)), generate


tile: Any = intrinsic(prefer_literal=True)(_typed_tile)  # (format, tokens, w, x, out, blocks, row)
