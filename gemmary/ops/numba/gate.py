"""The gated GELU of the feed-forward."""

from __future__ import annotations

from typing import Any

import numpy as np

from .activation import BLOCK, round_block, tile_of
from .kernel import ADDRESS, COUNT, floats_at, kernel, record
from .scalar import gelu
from .tile import TOKEN_BYTES

PART = 512  # columns a piece, so that one token's work can be shared


@kernel(g=ADDRESS, u=ADDRESS, out=ADDRESS, columns=COUNT)
def gate(args: Any, piece: int) -> None:
    """out = gelu_tanh(g) * u, a token a piece."""
    a = record(args)
    n, at = a.columns, 4 * a.columns * piece
    g, u, out = floats_at(a.g + at, n), floats_at(a.u + at, n), floats_at(a.out + at, n)
    for i in range(n):
        out[i] = np.float32(gelu(g[i]) * u[i])


@kernel(g=ADDRESS, u=ADDRESS, codes=ADDRESS, tokens=COUNT, columns=COUNT)
def gate_codes(args: Any, piece: int) -> None:
    """The codes of gelu_tanh(g) * u; a piece is a run of 512 columns of a token."""
    a = record(args)
    parts = (a.columns + PART - 1) // PART
    token, begin = piece // parts, piece % parts * PART
    first, size = tile_of(token, a.tokens)
    tile = a.codes + first * (a.columns // BLOCK) * TOKEN_BYTES
    at = 4 * (a.columns * token + begin)
    count = min(PART, a.columns - begin)
    g, u, out = floats_at(a.g + at, count), floats_at(a.u + at, count), np.empty(PART, np.float32)
    for i in range(count):
        out[i] = np.float32(gelu(g[i]) * u[i])
    for b in range(count // BLOCK):
        to = tile + (begin // BLOCK + b) * size * TOKEN_BYTES
        round_block(out.ctypes.data + 4 * BLOCK * b, to, size, token - first)


def gate_pieces(tokens: int, columns: int) -> int:
    """How many pieces `gate_codes` has."""
    return tokens * -(-columns // PART)
