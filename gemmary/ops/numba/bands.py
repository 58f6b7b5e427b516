"""int8 weights for many tokens: bands of 32 rows, blocks of 32 columns.

Where thousands of tokens meet a matrix, arithmetic is the limit and not memory. So a band is two strips side
by side that share every activation that is read, and codes lie as the processor's product wants them.

Bit rule: a sum over 32 columns is exact. A total begins at the bias; sums are added in the order of columns,
by one fused multiply-add of (sum, weight scale * activation scale), then the loud columns (`patch_codes`),
each by one of (activation, weight in two bytes); what is to be added comes last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import types
from numba.extending import intrinsic, register_jitable

from ..contract import Floats
from .activation import tile_of
from .arena import Arena
from .emit import F32, I32, LANES, VB, VF, Emitter, Value, ir
from .instructions import chosen
from .kernel import ADDRESS, COUNT, bytes_at, floats_at, ints_at, kernel, record
from .memory import WeightMemory
from .patch_codes import BLOCK, LOUD, TOKEN_BYTES, Codes, blocks_of
from .tape import Tape
from .team import Team

STRIPS = 2
ROWS = STRIPS * LANES
BLOCK_BYTES = ROWS * (BLOCK + 4)  # codes [8][32 rows][4], then a scale float32 of each row
_WORDS = BLOCK // 4
_CACHED = 3 << 17  # bytes of bands that meet a tile of tokens before the next tile is read: they stay in L2
_BIAS = chosen.SIGNED_BIAS  # codes lie as the processor's product wants them
_SMALLEST = np.float32(1e-30)  # blocks that have nothing larger are rounded to 0
_ROUND = np.float32(12582912.0)  # 1.5 * 2^23: adding it rounds to the nearest integer, ties to even


@dataclass(frozen=True)
class Bands:
    """A weight [rows, columns] in int8 with a bias. Bands and blocks that are not full have zeros.

    `rests` [bands, columns, 32] are a second byte of each number, in 254ths of the first one's unit. Only
    loud columns are read with it: they carry so much that a rounded weight there would be heard.
    """

    rows: int
    columns: int
    codes: npt.NDArray[np.uint8]
    rests: npt.NDArray[np.uint8]
    bias: Floats

    @classmethod
    def pack(cls, team: Team, memory: WeightMemory, values: Floats, bias: Floats | None) -> Bands:
        """values [rows, columns] rounded on all threads, 32 of a row to their largest magnitude / 127."""
        rows, columns = values.shape
        count, blocks = -(-rows // ROWS), blocks_of(columns)
        codes, rests = memory.take(count * blocks * BLOCK_BYTES), memory.take(count * ROWS * columns)
        held = np.zeros(count * ROWS, np.float32)
        if bias is not None:
            held[:rows] = bias
        tape = Tape()
        tape.add(
            _pack_band, count, values=values, codes=codes, rests=rests, rows=rows, columns=columns,
            blocks=blocks,
        )  # fmt: skip
        team.play(tape)
        return cls(rows, columns, codes, rests, held)


def multiply(
    tape: Tape, team: Team, arena: Arena, weight: Bands, x: Codes, out: Floats, add: Floats | None = None
) -> None:
    """Put out [T, rows] = x W^T + bias + add on a tape; add [T, rows]."""
    blocks, bands = blocks_of(weight.columns), len(weight.bias) // ROWS
    loud = arena.take((bands, LOUD, ROWS))
    tape.add(
        _gather, bands, weight=weight.codes, rests=weight.rests, columns=weight.columns, blocks=blocks,
        loud=x.loud, count=x.count, out=loud,
    )  # fmt: skip
    together = max(1, _CACHED // (blocks * BLOCK_BYTES))
    pieces = max(min(bands, team.threads), -(-bands // together))
    tape.add(
        _product, pieces, weight=weight.codes, bias=weight.bias, loud=loud, x=x.codes, values=x.values,
        count=x.count, out=out, add=add, rows=weight.rows, row=out.strides[0],
        add_row=0 if add is None else add.strides[0], tokens=x.tokens, blocks=blocks, together=together,
    )  # fmt: skip


@dataclass(frozen=True)
class Places:
    """What a band and a tile of tokens are, in addresses and numbers.

    A band's codes, bias and loud columns; a tile's codes and loud values; where results go, and what is added
    to them, each with the bytes of a row; how many blocks and loud columns there are.
    """

    weight: Value
    bias: Value
    loud: Value
    x: Value
    values: Value
    out: Value
    row: Value
    add: Value
    add_row: Value
    blocks: Value
    count: Value


def emit_band(e: Emitter, isa: Any, tokens: int, at: Places) -> None:
    """A band times a tile of tokens."""
    places = [(s, m) for s in range(STRIPS) for m in range(tokens)]
    totals = {(s, m): e.variable(e.load(VF, at.bias, 4 * LANES * s)) for s, m in places}
    with e.loop(at.blocks) as i:
        w, x = e.step(at.weight, i, BLOCK_BYTES), e.step(at.x, i, tokens * TOKEN_BYTES)
        _add_block(e, isa, tokens, w, x, totals)
    with e.loop(at.count) as j:
        weights = [e.load(VF, e.step(at.loud, j, 4 * ROWS), 4 * LANES * s) for s in range(STRIPS)]
        for m in range(tokens):
            value = e.splat(e.load(F32, e.step(at.values, j, 4), 4 * LOUD * m))
            for s, weight in enumerate(weights):
                e.b.store(e.fma(value, weight, e.b.load(totals[s, m])), totals[s, m])
    for s, m in places:
        rows = (at.out, at.row), (at.add, at.add_row)
        to, more = (e.b.add(a, e.b.mul(row, ir.Constant(row.type, m))) for a, row in rows)
        value = e.b.fadd(e.b.load(totals[s, m]), e.load(VF, more, 4 * LANES * s))
        e.store(value, to, 4 * LANES * s)


def _add_block(
    e: Emitter, isa: Any, tokens: int, w: Value, x: Value, totals: dict[tuple[int, int], Value]
) -> None:
    """32 columns."""
    dot = isa.dot_unsigned if isa.SIGNED_BIAS else isa.dot_signed
    after = tokens * BLOCK
    starts = [e.splat(e.load(I32, x, after + 4 * (tokens + m))) for m in range(tokens)]
    sums = {(s, m): start for s in range(STRIPS) for m, start in enumerate(starts)}
    for j in range(_WORDS):
        codes = [e.load(VB, w, 64 * (STRIPS * j + s), 16) for s in range(STRIPS)]
        for m in range(tokens):
            word = e.splat(e.load(I32, x, 4 * (j * tokens + m)))
            for s in range(STRIPS):
                sums[s, m] = dot(e, sums[s, m], codes[s], word)
    scales = [e.load(VF, w, ROWS * BLOCK + 4 * LANES * s) for s in range(STRIPS)]
    for m in range(tokens):
        step = e.splat(e.load(F32, x, after + 4 * m))
        for s, scale in enumerate(scales):
            total = e.fma(e.as_float(sums[s, m]), e.b.fmul(scale, step), e.b.load(totals[s, m]))
            e.b.store(total, totals[s, m])


def _band(
    _typing: Any, tokens: Any, weight: Any, bias: Any, loud: Any, x: Any, values: Any, out: Any, row: Any,
    add: Any, add_row: Any, blocks: Any, count: Any,
) -> Any:  # fmt: skip
    """`emit_band` for a number of tokens that is known when this is compiled."""

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        emit_band(Emitter(builder), chosen, tokens.literal_value, Places(*args[1:]))
        return context.get_dummy_value()

    return types.void(tokens, *([types.intp] * 11)), generate


band: Any = intrinsic(prefer_literal=True)(_band)


@kernel(
    weight=ADDRESS, bias=ADDRESS, loud=ADDRESS, x=ADDRESS, values=ADDRESS, count=ADDRESS, out=ADDRESS,
    add=ADDRESS, rows=COUNT, row=COUNT, add_row=COUNT, tokens=COUNT, blocks=COUNT, together=COUNT,
    pieces=COUNT,
)  # fmt: skip
def _product(args: Any, piece: int) -> None:
    """A run of bands times all tokens, so many bands at a time that they stay near."""
    a = record(args)
    bands, loud = (a.rows + ROWS - 1) // ROWS, ints_at(a.count, 2)[0]
    begin, end = piece * bands // a.pieces, (piece + 1) * bands // a.pieces
    rest, nothing = np.empty(8 * ROWS, np.float32), np.zeros(ROWS, np.float32)
    for start in range(begin, end, a.together):
        token = 0
        while token < a.tokens:
            size = tile_of(token, a.tokens)[1]
            x, values = a.x + token * a.blocks * TOKEN_BYTES, a.values + 4 * LOUD * token
            for n in range(start, min(start + a.together, end)):
                w, after = a.weight + n * a.blocks * BLOCK_BYTES, 4 * ROWS * n
                lw = a.loud + LOUD * after
                bias, out, row = a.bias + after, a.out + token * a.row + after, a.row
                add, add_row = nothing.ctypes.data, 0
                lacking = (n + 1) * ROWS > a.rows
                if lacking:
                    out, row = rest.ctypes.data, 4 * ROWS
                elif a.add:
                    add, add_row = a.add + token * a.add_row + after, a.add_row
                if size == 8:
                    band(8, w, bias, lw, x, values, out, row, add, add_row, a.blocks, loud)
                elif size == 4:
                    band(4, w, bias, lw, x, values, out, row, add, add_row, a.blocks, loud)
                elif size == 2:
                    band(2, w, bias, lw, x, values, out, row, add, add_row, a.blocks, loud)
                else:
                    band(1, w, bias, lw, x, values, out, row, add, add_row, a.blocks, loud)
                if lacking:
                    more = a.add + token * a.add_row + after if a.add else 0
                    left = a.rows - n * ROWS
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


@kernel(weight=ADDRESS, rests=ADDRESS, columns=COUNT, blocks=COUNT, loud=ADDRESS, count=ADDRESS, out=ADDRESS)
def _gather(args: Any, piece: int) -> None:
    """The loud columns of a band as floats [32 columns, 32 rows]."""
    a = record(args)
    loud = ints_at(a.loud, LOUD)
    for j in range(ints_at(a.count, 2)[0]):
        c = np.int64(loud[j])
        block = a.weight + (piece * a.blocks + c // BLOCK) * BLOCK_BYTES
        codes, scales = bytes_at(block, ROWS * BLOCK), floats_at(block + ROWS * BLOCK, ROWS)
        rests = bytes_at(a.rests + ROWS * (a.columns * piece + c), ROWS)
        out = floats_at(a.out + 4 * ROWS * (LOUD * piece + j), ROWS)
        for r in range(ROWS):
            code = np.int32(codes[c % BLOCK // 4 * 4 * ROWS + 4 * r + c % 4] ^ np.uint8(_BIAS ^ 0x80)) - 128
            both = np.int32(254) * code + np.int32(np.int8(rests[r]))
            out[r] = np.float32(np.float32(both) * np.float32(scales[r] / np.float32(254)))


@kernel(values=ADDRESS, codes=ADDRESS, rests=ADDRESS, rows=COUNT, columns=COUNT, blocks=COUNT)
def _pack_band(args: Any, piece: int) -> None:
    """Round 32 rows; what lacks of them is zeros."""
    a = record(args)
    for b in range(a.blocks):
        block = a.codes + (piece * a.blocks + b) * BLOCK_BYTES
        codes, scales = bytes_at(block, ROWS * BLOCK), floats_at(block + ROWS * BLOCK, ROWS)
        codes[:], scales[:] = np.uint8(_BIAS), np.float32(0)
        count = min(BLOCK, a.columns - BLOCK * b)
        rests = bytes_at(a.rests + ROWS * (a.columns * piece + BLOCK * b), ROWS * count)
        rests[:] = np.uint8(0)
        for r in range(min(ROWS, a.rows - ROWS * piece)):
            x = floats_at(a.values + 4 * (a.columns * (ROWS * piece + r) + BLOCK * b), count)
            scales[r] = np.float32(peak(x) / np.float32(127))
            inverse = inverse_of(peak(x))
            for c in range(count):
                exact = np.float32(x[c] * inverse)
                code = nearest(exact)
                codes[c // 4 * 4 * ROWS + 4 * r + c % 4] = np.uint8((code + _BIAS) & 0xFF)
                left = np.float32(exact - np.float32(code))
                rests[ROWS * c + r] = np.uint8(nearest(np.float32(left * np.float32(254))) & 0xFF)


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
