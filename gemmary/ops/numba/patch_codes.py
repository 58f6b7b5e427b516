"""int8 activations of the tower: 32 columns share a float32 scale; the loudest columns stay float32.

Some channels of a trained network are many times as large as the others, whatever the picture. One such
column would leave its 31 neighbours no more than a few codes. So columns whose largest magnitude among the
rows that come together is more than four times the median column's (at most 32) are zeros among the codes,
and are kept beside them as they are. Rows that come together are always of one picture, and the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import types
from numba.extending import register_jitable

from ..contract import Floats, Ints
from .activation import tile_of
from .arena import Arena
from .emit import F32, I8, I32, VF, VI, Emitter, Value, floats, inline, ints, ir
from .instructions import chosen
from .kernel import ADDRESS, COUNT, floats_at, ints_at, kernel, record
from .tape import Tape

BLOCK = 32
# A tile of M tokens holds for each block: codes int8 [8][M][4], then M each of: scale float32, and where an
# integer sum of products with the codes begins (minus their sum, times what weights are too large).
TOKEN_BYTES = BLOCK + 4 + 4
LOUD = 32  # most columns that stay floats
RUN = 32  # rows of a piece
_LOUDER = np.float32(4)
_VECTORS = BLOCK // 16
_SMALLEST = float(np.float32(1e-30))  # blocks that have nothing larger are rounded to 0
_ROUND = 12582912.0  # 1.5 * 2^23: adding it rounds to the nearest integer, ties to even


@dataclass(frozen=True)
class Codes:
    """Rows [tokens, columns] as products read them; `count` is how many columns are loud."""

    tokens: int
    columns: int
    codes: npt.NDArray[np.uint8]
    loud: Ints
    values: Floats
    count: npt.NDArray[np.int64]


def blocks_of(columns: int) -> int:
    """Blocks of a row, the last filled with zeros."""
    return -(-columns // BLOCK)


def peaks_of(arena: Arena, tokens: int, columns: int) -> Ints:
    """Memory for the largest magnitude of each column in each run of rows, as its bits."""
    return arena.take((-(-tokens // RUN), columns), np.int32)


def round_rows(tape: Tape, arena: Arena, x: Floats, peaks: Ints) -> Codes:
    """Put rounding of x [T, columns], whose peaks are known, on a tape."""
    tokens, columns = x.shape
    made = Codes(
        tokens, columns, arena.take((tokens * blocks_of(columns) * TOKEN_BYTES,), np.uint8),
        arena.take((LOUD,), np.int32), arena.take((tokens, LOUD)), arena.take((1,), np.int64),
    )  # fmt: skip
    shared = {"loud": made.loud, "count": made.count, "columns": columns}
    tape.add(_pick, 1, peaks=peaks, runs=len(peaks), **shared)
    tape.add(
        _round_run, len(peaks), x=x, codes=made.codes, values=made.values, tokens=tokens,
        blocks=blocks_of(columns), **shared,
    )  # fmt: skip
    return made


@register_jitable(forceinline=True)
def note(row: np.ndarray, peaks: np.ndarray) -> None:
    """Take a row's magnitudes into the peaks of its run; NaN is above all."""
    bits = row.view(np.int32)
    for c in range(len(bits)):
        peaks[c] = max(peaks[c], np.int32(bits[c] & np.int32(0x7FFFFFFF)))


@kernel(x=ADDRESS, peaks=ADDRESS, tokens=COUNT, columns=COUNT)
def note_rows(args: Any, piece: int) -> None:
    """The peaks of a run of rows of x [tokens, columns]."""
    a = record(args)
    peaks = ints_at(a.peaks + 4 * a.columns * piece, a.columns)
    peaks[:] = np.int32(0)
    for token in range(RUN * piece, min(RUN * piece + RUN, a.tokens)):
        note(floats_at(a.x + 4 * a.columns * token, a.columns), peaks)


@kernel(peaks=ADDRESS, runs=COUNT, loud=ADDRESS, count=ADDRESS, columns=COUNT)
def _pick(args: Any, piece: int) -> None:
    """The loud columns."""
    a = record(args)
    most = np.zeros(a.columns, np.int32)
    for run in range(a.runs):
        peaks = ints_at(a.peaks + 4 * a.columns * run, a.columns)
        for c in range(a.columns):
            most[c] = max(most[c], peaks[c])
    ordered = np.sort(most)
    border = np.empty(1, np.float32)
    border[0] = np.float32(_LOUDER * ordered.view(np.float32)[a.columns // 2])
    least = border.view(np.int32)[0]
    if a.columns > LOUD:
        least = max(least, ordered[a.columns - LOUD - 1])
    loud, count = ints_at(a.loud, LOUD), 0
    for c in range(a.columns):
        if most[c] > least and count < LOUD:
            loud[count] = np.int32(c)
            count += 1
    ints_at(a.count, 2)[0], ints_at(a.count, 2)[1] = np.int32(count), np.int32(0)


def emit_round(e: Emitter, isa: Any, x: Value, to: Value, size: Value, member: Value) -> None:
    """32 floats at x -> codes, scale and start of token `member` in the block of a tile of `size`."""
    parts = [e.load(VF, x, 64 * i) for i in range(_VECTORS)]
    # Without their sign bit, floats are in the order of their bits, and NaN is above all.
    sizes = [e.b.and_(e.cast(part, VI), ints(0x7FFFFFFF)) for part in parts]
    while len(sizes) > 1:
        sizes = [e.call("llvm.smax.v16i32", VI, a, b) for a, b in zip(sizes[::2], sizes[1::2], strict=True)]
    peak = e.cast(e.call("llvm.vector.reduce.smax.v16i32", I32, sizes[0]), F32)
    some = e.b.fcmp_ordered(">", peak, ir.Constant(F32, _SMALLEST))
    inverse = e.splat(e.b.select(some, e.b.fdiv(ir.Constant(F32, 127.0), peak), ir.Constant(F32, 0.0)))
    total = ints(0)
    for i, part in enumerate(parts):
        shifted = e.b.fadd(e.b.fmul(part, inverse), floats(_ROUND))
        codes = e.b.fptosi(e.b.fsub(shifted, floats(_ROUND)), VI)
        total = e.b.add(total, codes)
        words = e.cast(e.b.trunc(codes, ir.VectorType(I8, 16)), ir.VectorType(I32, 4))
        for j in range(4):
            place = e.b.add(e.b.mul(size, ir.Constant(size.type, 4 * i + j)), member)
            e.store(e.b.extract_element(words, ir.Constant(I32, j)), e.step(to, place, 4))
    after = e.b.add(e.step(to, size, BLOCK), e.b.mul(member, ir.Constant(member.type, 4)))
    e.store(e.b.fdiv(peak, ir.Constant(F32, 127.0)), after)
    start = e.b.mul(e.call("llvm.vector.reduce.add.v16i32", I32, total), ir.Constant(I32, -isa.SIGNED_BIAS))
    e.store(start, e.step(after, size, 4))


@inline(types.void, types.intp, types.intp, types.intp, types.intp)
def _round_block(e: Emitter, x: Value, to: Value, size: Value, member: Value) -> None:
    emit_round(e, chosen, x, to, size, member)


@kernel(
    x=ADDRESS, codes=ADDRESS, values=ADDRESS, loud=ADDRESS, count=ADDRESS, tokens=COUNT,
    columns=COUNT, blocks=COUNT,
)  # fmt: skip
def _round_run(args: Any, piece: int) -> None:
    """The codes of a run of rows, and their loud columns."""
    a = record(args)
    room, loud, count = np.zeros(a.blocks * BLOCK, np.float32), ints_at(a.loud, LOUD), ints_at(a.count, 2)[0]
    for token in range(RUN * piece, min(RUN * piece + RUN, a.tokens)):
        room[: a.columns] = floats_at(a.x + 4 * a.columns * token, a.columns)
        values = floats_at(a.values + 4 * LOUD * token, LOUD)
        for j in range(count):
            values[j] = room[loud[j]]
            room[loud[j]] = np.float32(0)
        first, size = tile_of(token, a.tokens)
        tile = a.codes + first * a.blocks * TOKEN_BYTES
        for b in range(a.blocks):
            _round_block(room.ctypes.data + 4 * BLOCK * b, tile + b * size * TOKEN_BYTES, size, token - first)
