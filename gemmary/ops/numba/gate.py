"""The gated GELU of the feed-forward."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from .activation import BLOCK, emit_round, tile_of
from .elementary import emit_gelu
from .emit import LANES, VF, Emitter, Value, inline
from .kernel import ADDRESS, COUNT, floats_at, kernel, record
from .scalar import gelu
from .tile import TOKEN_BYTES

PART = 1152  # columns a piece, so that one token's work can be shared


def _gated(e: Emitter, g: Value, u: Value, offset: int) -> Value:
    """Sixteen gated values."""
    return e.b.fmul(emit_gelu(e, e.load(VF, g, offset)), e.load(VF, u, offset))


@inline(types.void, types.intp, types.intp, types.intp)
def _gate_lanes(e: Emitter, g: Value, u: Value, out: Value) -> None:
    e.store(_gated(e, g, u, 0), out)


@inline(types.void, types.intp, types.intp, types.intp, types.intp, types.intp)
def _gate_block(e: Emitter, g: Value, u: Value, to: Value, size: Value, member: Value) -> None:
    emit_round(e, [_gated(e, g, u, offset) for offset in (0, 4 * LANES)], to, size, member)


@kernel(g=ADDRESS, u=ADDRESS, out=ADDRESS, columns=COUNT)
def gate(args: Any, piece: int) -> None:
    """out = gelu_tanh(g) * u, a token a piece."""
    a = record(args)
    n, at = a.columns, 4 * a.columns * piece
    whole = n // LANES * LANES
    for i in range(0, whole, LANES):
        _gate_lanes(a.g + at + 4 * i, a.u + at + 4 * i, a.out + at + 4 * i)
    g, u, out = floats_at(a.g + at, n), floats_at(a.u + at, n), floats_at(a.out + at, n)
    for i in range(whole, n):
        out[i] = np.float32(gelu(g[i]) * u[i])


@kernel(g=ADDRESS, u=ADDRESS, codes=ADDRESS, tokens=COUNT, columns=COUNT)
def gate_codes(args: Any, piece: int) -> None:
    """The codes of gelu_tanh(g) * u; a piece is a run of columns of a token."""
    a = record(args)
    parts = (a.columns + PART - 1) // PART
    token, begin = piece // parts, piece % parts * PART
    first, size = tile_of(token, a.tokens)
    tile = a.codes + first * (a.columns // BLOCK) * TOKEN_BYTES
    for i in range(begin, min(begin + PART, a.columns), BLOCK):
        at = 4 * (a.columns * token + i)
        _gate_block(a.g + at, a.u + at, tile + i // BLOCK * size * TOKEN_BYTES, size, token - first)


def gate_pieces(tokens: int, columns: int) -> int:
    """How many pieces `gate_codes` has."""
    return tokens * -(-columns // PART)
