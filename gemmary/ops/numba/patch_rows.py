"""Small operations of the tower on rows: cutting pictures into squares, LayerNorm, GELU, sums, pooling.

Rows that go into a product as codes are padded with zeros to blocks of 32 columns.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import register_jitable

from .activation import round_token
from .elementary import emit_gelu
from .emit import F32, LANES, VF, Emitter, Value, floats, inline, ir, whole
from .floatrows import tree
from .kernel import ADDRESS, COUNT, NUMBER, floats_at, kernel, record
from .scalar import gelu
from .vector import dot_f32

_ONE = np.float32(1)


@inline(types.float32, types.intp, types.intp)
def _sum(e: Emitter, x: Value, count: Value) -> Value:
    """The sum of floats: sixteen lanes, a fixed tree of halves, then what is left over, in order."""
    wide, rest = e.variable(floats(0.0)), e.variable(ir.Constant(F32, 0.0))
    vectors = e.b.lshr(count, whole(4))
    with e.loop(vectors) as i:
        e.b.store(e.b.fadd(e.b.load(wide), e.load(VF, e.step(x, i, 4 * LANES))), wide)
    with e.loop(count, e.b.shl(vectors, whole(4))) as i:
        e.b.store(e.b.fadd(e.b.load(rest), e.load(F32, e.step(x, i, 4))), rest)
    return e.b.fadd(tree(e, e.b.load(wide)), e.b.load(rest))


@inline(types.void, types.intp, types.intp)
def _gelu_lanes(e: Emitter, x: Value, out: Value) -> None:
    e.store(emit_gelu(e, e.load(VF, x)), out)


@register_jitable(forceinline=True)
def _room(out: int, columns: int, codes: int, padded: int) -> np.ndarray:
    """Where a row is made: in its place, or, if it becomes codes, in new memory, padded with zeros."""
    if codes:
        return np.zeros(padded, np.float32)
    return floats_at(out, columns)


@register_jitable
def _normalised(x: np.ndarray, gain: np.ndarray, bias: int, eps: np.float32, out: np.ndarray) -> None:
    """RMSNorm of a row, or, with a bias, LayerNorm; see `contract.Norm`."""
    n = len(x)
    mean = np.float32(0)
    if bias:
        mean = np.float32(_sum(x.ctypes.data, n) / np.float32(n))
    for i in range(n):
        out[i] = np.float32(x[i] - mean)
    square = np.float32(dot_f32(out, 0, out, 0, n) / np.float32(n))
    scale = np.float32(_ONE / np.sqrt(np.float32(square + eps)))
    for i in range(n):
        out[i] = np.float32(np.float32(out[i] * scale) * gain[i])
    if bias:
        added = floats_at(bias, n)
        for i in range(n):
            out[i] = np.float32(out[i] + added[i])


@kernel(
    x=ADDRESS, gain=ADDRESS, bias=ADDRESS, eps=NUMBER, out=ADDRESS, codes=ADDRESS, tokens=COUNT,
    columns=COUNT, padded=COUNT,
)  # fmt: skip
def normalise_rows(args: Any, piece: int) -> None:
    """The norm of a row, to `out` or to `codes`."""
    a = record(args)
    n, at = a.columns, 4 * a.columns * piece
    room = _room(a.out + at, n, a.codes, a.padded)
    _normalised(floats_at(a.x + at, n), floats_at(a.gain, n), a.bias, a.eps, room)
    if a.codes:
        round_token(room.ctypes.data, a.codes, piece, a.tokens, a.padded)


@kernel(x=ADDRESS, codes=ADDRESS, tokens=COUNT, columns=COUNT, padded=COUNT)
def round_padded(args: Any, piece: int) -> None:
    """The codes of a row of x [tokens, columns]."""
    a = record(args)
    room = np.zeros(a.padded, np.float32)
    room[: a.columns] = floats_at(a.x + 4 * a.columns * piece, a.columns)
    round_token(room.ctypes.data, a.codes, piece, a.tokens, a.padded)


@kernel(x=ADDRESS, row=COUNT, out=ADDRESS, codes=ADDRESS, tokens=COUNT, columns=COUNT, padded=COUNT)
def gelu_rows(args: Any, piece: int) -> None:
    """gelu_tanh of a row, to `out` or to `codes`; rows of x are `row` bytes apart."""
    a = record(args)
    x, n = a.x + a.row * piece, a.columns
    room = _room(a.out + 4 * n * piece, n, a.codes, a.padded)
    full = n // LANES * LANES
    for i in range(0, full, LANES):
        _gelu_lanes(x + 4 * i, room.ctypes.data + 4 * i)
    values = floats_at(x, n)
    for i in range(full, n):
        room[i] = gelu(values[i])
    if a.codes:
        round_token(room.ctypes.data, a.codes, piece, a.tokens, a.padded)


@kernel(y=ADDRESS, bias=ADDRESS, add=ADDRESS, out=ADDRESS, columns=COUNT)
def add_rows(args: Any, piece: int) -> None:
    """y + bias + add, of a row; bias [columns] and add [tokens, columns] may be lacking."""
    a = record(args)
    n, at = a.columns, 4 * a.columns * piece
    y, out = floats_at(a.y + at, n), floats_at(a.out + at, n)
    for i in range(n):
        out[i] = y[i]
    if a.bias:
        bias = floats_at(a.bias, n)
        for i in range(n):
            out[i] = np.float32(out[i] + bias[i])
    if a.add:
        add = floats_at(a.add + at, n)
        for i in range(n):
            out[i] = np.float32(out[i] + add[i])


@kernel(pixels=ADDRESS, side=COUNT, patch=COUNT, out=ADDRESS, codes=ADDRESS, tokens=COUNT, padded=COUNT)
def cut_square(args: Any, piece: int) -> None:
    """A square of pixels [n, 3, side, side] as a row [3, patch, patch]."""
    a = record(args)
    grid, n = a.side // a.patch, 3 * a.patch * a.patch
    picture, inside = piece // (grid * grid), piece % (grid * grid)
    top, left = inside // grid * a.patch, inside % grid * a.patch
    room = _room(a.out + 4 * n * piece, n, a.codes, a.padded)
    for c in range(3):
        for y in range(a.patch):
            line = floats_at(a.pixels + 4 * (((3 * picture + c) * a.side + top + y) * a.side + left), a.patch)
            room[(c * a.patch + y) * a.patch : (c * a.patch + y + 1) * a.patch] = line
    if a.codes:
        round_token(room.ctypes.data, a.codes, piece, a.tokens, a.padded)


@kernel(x=ADDRESS, gain=ADDRESS, bias=ADDRESS, eps=NUMBER, out=ADDRESS, columns=COUNT, grid=COUNT, side=COUNT)
def pool_square(args: Any, piece: int) -> None:
    """The mean of the norms of a square of patches, added row by row."""
    a = record(args)
    n, step = a.columns, a.grid // a.side
    picture, inside = piece // (a.side * a.side), piece % (a.side * a.side)
    first = (picture * a.grid + inside // a.side * step) * a.grid + inside % a.side * step
    out, room = floats_at(a.out + 4 * n * piece, n), np.empty(n, np.float32)
    out[:] = np.float32(0)
    for y in range(step):
        for x in range(step):
            row = floats_at(a.x + 4 * n * (first + y * a.grid + x), n)
            _normalised(row, floats_at(a.gain, n), a.bias, a.eps, room)
            for i in range(n):
                out[i] = np.float32(out[i] + room[i])
    for i in range(n):
        out[i] = np.float32(out[i] / np.float32(step * step))
