"""Small operations of the tower on rows: cutting pictures into squares, LayerNorm, GELU, sums, pooling.

Where rows become codes next, their peaks are noted while they are in the cache (`patch_codes`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import register_jitable

from .elementary import emit_gelu
from .emit import F32, LANES, VF, Emitter, Value, floats, inline, ir, whole
from .floatrows import tree
from .kernel import ADDRESS, COUNT, NUMBER, floats_at, ints_at, kernel, record
from .patch_codes import RUN, note
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
def _begin(peaks: int, piece: int, columns: int) -> np.ndarray:
    """The peaks of a run of rows, or of none."""
    found = ints_at(peaks + 4 * columns * piece, columns if peaks else 0)
    found[:] = np.int32(0)
    return found


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
    x=ADDRESS, gain=ADDRESS, bias=ADDRESS, eps=NUMBER, out=ADDRESS, peaks=ADDRESS, tokens=COUNT, columns=COUNT
)
def normalise_rows(args: Any, piece: int) -> None:
    """The norms of a run of rows, and, if `peaks` is not 0, their peaks."""
    a = record(args)
    n, peaks = a.columns, _begin(a.peaks, piece, a.columns)
    for token in range(RUN * piece, min(RUN * piece + RUN, a.tokens)):
        out = floats_at(a.out + 4 * n * token, n)
        _normalised(floats_at(a.x + 4 * n * token, n), floats_at(a.gain, n), a.bias, a.eps, out)
        if a.peaks:
            note(out, peaks)


@kernel(x=ADDRESS, out=ADDRESS, peaks=ADDRESS, tokens=COUNT, columns=COUNT)
def gelu_rows(args: Any, piece: int) -> None:
    """gelu_tanh of a run of rows, and, if `peaks` is not 0, their peaks."""
    a = record(args)
    n, peaks = a.columns, _begin(a.peaks, piece, a.columns)
    full = n // LANES * LANES
    for token in range(RUN * piece, min(RUN * piece + RUN, a.tokens)):
        at = 4 * n * token
        for i in range(0, full, LANES):
            _gelu_lanes(a.x + at + 4 * i, a.out + at + 4 * i)
        x, out = floats_at(a.x + at, n), floats_at(a.out + at, n)
        for i in range(full, n):
            out[i] = gelu(x[i])
        if a.peaks:
            note(out, peaks)


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


@kernel(pixels=ADDRESS, side=COUNT, patch=COUNT, out=ADDRESS)
def cut_square(args: Any, piece: int) -> None:
    """A square of pixels [3, side, side] as a row [3, patch, patch]."""
    a = record(args)
    grid, n = a.side // a.patch, 3 * a.patch * a.patch
    top, left = piece // grid * a.patch, piece % grid * a.patch
    out = floats_at(a.out + 4 * n * piece, n)
    for c in range(3):
        for y in range(a.patch):
            line = floats_at(a.pixels + 4 * ((c * a.side + top + y) * a.side + left), a.patch)
            out[(c * a.patch + y) * a.patch : (c * a.patch + y + 1) * a.patch] = line


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
