"""int8 weights for many tokens: bands of 32 rows, a scale a row, a bias.

Where thousands of tokens meet a matrix, arithmetic is the limit and not memory. So a band is two strips side by
side that share every activation that is read, and a row has one scale: it is multiplied in at the end, once.

Bit rule: sums over 32 columns are exact; each is added in the order of columns by one fused multiply-add of
(sum, activation scale); the total meets (row scale, bias) in one more; what is to be added comes last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import types
from numba.extending import intrinsic, register_jitable

from ..contract import Floats
from .activation import BLOCK, tile_of
from .emit import F32, I32, LANES, VB, VF, VI, Emitter, Value, floats, ints, ir
from .instructions import chosen
from .kernel import ADDRESS, COUNT, bytes_at, floats_at, kernel, record
from .memory import WeightMemory
from .tape import Tape
from .team import Team
from .tile import TOKEN_BYTES

STRIPS = 2
ROWS = STRIPS * LANES
BLOCK_BYTES = ROWS * BLOCK
_WORDS = BLOCK // 4
_SCALE, _SUM = BLOCK, BLOCK + 4  # see `tile.TOKEN_BYTES`
_CACHED = 3 << 17  # bytes of bands that meet a tile of tokens before the next tile is read: they stay in L2
_BIAS = chosen.SIGNED_BIAS  # codes lie as the processor's product wants them
_SMALLEST = np.float32(1e-30)  # rows that have nothing larger are rounded to 0
_ROUND = np.float32(12582912.0)  # 1.5 * 2^23: adding it rounds to the nearest integer, ties to even


@dataclass(frozen=True)
class Bands:
    """A weight [rows, columns] in int8. Rows are padded to bands and columns to blocks of 32, with zeros."""

    rows: int
    columns: int
    codes: npt.NDArray[np.uint8]
    scales: Floats
    bias: Floats

    @classmethod
    def pack(cls, team: Team, memory: WeightMemory, values: Floats, bias: Floats | None) -> Bands:
        """values [rows, columns] rounded on all threads, each row to its largest magnitude / 127."""
        rows, columns = values.shape
        count, blocks = -(-rows // ROWS), -(-columns // BLOCK)
        codes = memory.take(count * blocks * BLOCK_BYTES)
        scales, held = np.zeros(count * ROWS, np.float32), np.zeros(count * ROWS, np.float32)
        if bias is not None:
            held[:rows] = bias
        tape = Tape()
        tape.add(
            _pack_band, count, values=values, codes=codes, scales=scales, rows=rows, columns=columns,
            blocks=blocks,
        )  # fmt: skip
        team.play(tape)
        return cls(rows, columns, codes, scales, held)

    @property
    def padded(self) -> tuple[int, int]:
        """Rows and columns with what was added."""
        return len(self.scales), -(-self.columns // BLOCK) * BLOCK


def multiply(
    tape: Tape, team: Team, weight: Bands, codes: np.ndarray, out: Floats, add: Floats | None = None
) -> None:
    """Put out [T, >= rows] = x W^T + bias + add on a tape. What `out` has beyond the rows gets zeros.

    codes: those of x [T, padded columns]; add [T, rows]. Both matrices have rows that follow each other.
    """
    blocks = weight.padded[1] // BLOCK
    together = max(1, _CACHED // (blocks * BLOCK_BYTES))
    bands = weight.padded[0] // ROWS
    pieces = max(min(bands, team.threads), -(-bands // together))
    tape.add(
        _product, pieces, weight=weight.codes, scales=weight.scales, bias=weight.bias, x=codes, out=out,
        add=add, rows=min(weight.padded[0], out.shape[1]), row=out.strides[0],
        add_row=0 if add is None else add.strides[0], tokens=len(out), blocks=blocks, together=together,
    )  # fmt: skip


def emit_band(
    e: Emitter, isa: Any, tokens: int, w: Value, numbers: tuple[Value, Value], x: Value, blocks: Value,
    out: tuple[Value, Value], add: tuple[Value, Value],
) -> None:  # fmt: skip
    """A band times a tile of tokens. numbers: scales and bias; out and add: address and bytes of a row."""
    places = [(s, m) for s in range(STRIPS) for m in range(tokens)]
    totals = {place: e.variable(floats(0.0)) for place in places}
    with e.loop(blocks) as i:
        tile = e.step(x, i, tokens * TOKEN_BYTES)
        sums = _sums(e, isa, tokens, e.step(w, i, BLOCK_BYTES), tile)
        for m in range(tokens):
            step = e.splat(e.load(F32, tile, tokens * _SCALE + 4 * m))
            for s in range(STRIPS):
                total = totals[s, m]
                e.b.store(e.fma(e.as_float(sums[s, m]), step, e.b.load(total)), total)
    scales, bias = ([e.load(VF, at, 4 * LANES * s) for s in range(STRIPS)] for at in numbers)
    for s, m in places:
        at, more = (e.b.add(a, e.b.mul(row, ir.Constant(row.type, m))) for a, row in (out, add))
        value = e.fma(e.b.load(totals[s, m]), scales[s], bias[s])
        e.store(e.b.fadd(value, e.load(VF, more, 4 * LANES * s)), at, 4 * LANES * s)


def _sums(e: Emitter, isa: Any, tokens: int, w: Value, x: Value) -> dict[tuple[int, int], Value]:
    """Exact sums over 32 columns, by strip and token."""
    dot = isa.dot_unsigned if isa.SIGNED_BIAS else isa.dot_signed
    sums = {}
    for m in range(tokens):
        start = ints(0)
        if isa.SIGNED_BIAS:
            minus = e.splat(e.load(I32, x, tokens * _SUM + 4 * m))
            start = e.b.shl(minus, ir.Constant(VI, [isa.SIGNED_BIAS.bit_length() - 1] * LANES))
        sums |= {(s, m): start for s in range(STRIPS)}
    for j in range(_WORDS):
        codes = [e.load(VB, w, 64 * (STRIPS * j + s), 16) for s in range(STRIPS)]
        for m in range(tokens):
            word = e.splat(e.load(I32, x, 4 * (j * tokens + m)))
            for s in range(STRIPS):
                sums[s, m] = dot(e, sums[s, m], codes[s], word)
    return sums


def _typed_band(_typing: Any, tokens: Any, *kinds: Any) -> Any:
    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        w, scales, bias, x, blocks, out, row, add, add_row = args[1:]
        emit_band(
            Emitter(builder), chosen, tokens.literal_value, w, (scales, bias), x, blocks, (out, row),
            (add, add_row),
        )  # fmt: skip
        return context.get_dummy_value()

    return types.void(tokens, *([types.intp] * 9)), generate


def _band(
    _typing: Any, tokens: Any, w: Any, scales: Any, bias: Any, x: Any, blocks: Any, out: Any, row: Any,
    add: Any, add_row: Any,
) -> Any:  # fmt: skip
    """`emit_band` for a number of tokens that is known when this is compiled."""
    return _typed_band(_typing, tokens)


band: Any = intrinsic(prefer_literal=True)(_band)


@kernel(
    weight=ADDRESS, scales=ADDRESS, bias=ADDRESS, x=ADDRESS, out=ADDRESS, add=ADDRESS, rows=COUNT, row=COUNT,
    add_row=COUNT, tokens=COUNT, blocks=COUNT, together=COUNT, pieces=COUNT,
)  # fmt: skip
def _product(args: Any, piece: int) -> None:
    """A run of bands times all tokens, so many bands at a time that they stay near."""
    a = record(args)
    count = (a.rows + ROWS - 1) // ROWS
    begin, end = piece * count // a.pieces, (piece + 1) * count // a.pieces
    rest, nothing = np.empty(8 * ROWS, np.float32), np.zeros(ROWS, np.float32)
    for start in range(begin, end, a.together):
        token = 0
        while token < a.tokens:
            size = tile_of(token, a.tokens)[1]
            x = a.x + token * a.blocks * TOKEN_BYTES
            for number in range(start, min(start + a.together, end)):
                w, after = a.weight + number * a.blocks * BLOCK_BYTES, 4 * ROWS * number
                scales, bias = a.scales + after, a.bias + after
                out, row = a.out + token * a.row + after, a.row
                add, add_row = nothing.ctypes.data, 0
                lacking = (number + 1) * ROWS > a.rows
                if lacking:
                    out, row = rest.ctypes.data, 4 * ROWS
                elif a.add:
                    add, add_row = a.add + token * a.add_row + after, a.add_row
                if size == 8:
                    band(8, w, scales, bias, x, a.blocks, out, row, add, add_row)
                elif size == 4:
                    band(4, w, scales, bias, x, a.blocks, out, row, add, add_row)
                elif size == 2:
                    band(2, w, scales, bias, x, a.blocks, out, row, add, add_row)
                else:
                    band(1, w, scales, bias, x, a.blocks, out, row, add, add_row)
                if lacking:
                    more = a.add + token * a.add_row + after if a.add else 0
                    left = a.rows - number * ROWS
                    _copy_rest(rest, size, left, a.out + token * a.row + after, a.row, more, a.add_row)
            token += size


@register_jitable
def _copy_rest(rest: np.ndarray, size: int, rows: int, out: int, row: int, add: int, add_row: int) -> None:
    """The rows that there are of a last band."""
    for m in range(size):
        to = floats_at(out + m * row, rows)
        for r in range(rows):
            to[r] = rest[ROWS * m + r]
        if add:
            more = floats_at(add + m * add_row, rows)
            for r in range(rows):
                to[r] = np.float32(to[r] + more[r])


@kernel(values=ADDRESS, codes=ADDRESS, scales=ADDRESS, rows=COUNT, columns=COUNT, blocks=COUNT)
def _pack_band(args: Any, piece: int) -> None:
    """Round 32 rows; what lacks of them is zeros."""
    a = record(args)
    nbytes = a.blocks * BLOCK_BYTES
    codes = bytes_at(a.codes + piece * nbytes, nbytes)
    codes[:] = np.uint8(_BIAS)
    scales = floats_at(a.scales + 4 * ROWS * piece, ROWS)
    for r in range(min(ROWS, a.rows - ROWS * piece)):
        x = floats_at(a.values + 4 * a.columns * (ROWS * piece + r), a.columns)
        scales[r] = np.float32(peak(x) / np.float32(127))
        inverse = inverse_of(peak(x))
        for c in range(a.columns):
            code = nearest(np.float32(x[c] * inverse))
            at = c // BLOCK * BLOCK_BYTES + c % BLOCK // 4 * 4 * ROWS + 4 * r + c % 4
            codes[at] = np.uint8((code + _BIAS) & 0xFF)


@register_jitable(forceinline=True)
def peak(x: np.ndarray) -> np.float32:
    """The largest magnitude; NaN is above all."""
    bits = x.view(np.int32)
    most = np.int32(0)
    for i in range(len(bits)):
        most = max(most, np.int32(bits[i] & np.int32(0x7FFFFFFF)))
    return np.int32(most).view(np.float32)


@register_jitable(forceinline=True)
def inverse_of(largest: np.float32) -> np.float32:
    """What makes codes of values whose largest magnitude is given; 0 where it is NaN or next to nothing."""
    return np.float32(np.float32(127) / largest) if largest > _SMALLEST else np.float32(0)


@register_jitable(forceinline=True)
def nearest(x: np.float32) -> np.int32:
    """The nearest integer, ties to even."""
    return np.int32(np.float32(np.float32(x + _ROUND) - _ROUND))
