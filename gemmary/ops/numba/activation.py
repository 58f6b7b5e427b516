"""int8 activations: 32 columns share one float32 scale; a token's codes depend on that token only.

They lie as the products want them (`tile`): tiles of 8 tokens, and of 4, 2 and 1 for the rest.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import types
from numba.extending import register_jitable

from ..contract import Floats
from .emit import I8, I32, VF, Emitter, Value, inline, ints, ir
from .kernel import ADDRESS, COUNT, kernel, record
from .rounding import inverse_of, larger_size, peak_of, rounded, scale_of
from .tile import TOKEN_BYTES

BLOCK = 32
LARGEST_TILE = 8
LEVELS = 127


def room(tokens: int, columns: int) -> npt.NDArray[np.uint8]:
    """Memory for the codes of x [tokens, columns]; columns divide by 32."""
    return np.empty(tokens * (columns // BLOCK) * TOKEN_BYTES, np.uint8)


@register_jitable(forceinline=True)
def tile_of(token: int, tokens: int) -> tuple[int, int]:
    """First token and size of the tile that a token of a step is in."""
    first, size = 0, LARGEST_TILE
    while token >= first + (tokens - first) // size * size:
        first += (tokens - first) // size * size
        size //= 2
    return first + (token - first) // size * size, size


def emit_round(e: Emitter, parts: list[Value], to: Value, size: Value, member: Value) -> None:
    """32 floats in two vectors -> codes, scale, sums of token `member` in the block of a tile of `size`."""
    sizes = ints(0)
    for part in parts:
        sizes = larger_size(e, sizes, part)
    peak = peak_of(e, sizes)
    scale, inverse = scale_of(e, peak, LEVELS), inverse_of(e, peak, LEVELS)
    sums = []
    for i, part in enumerate(parts):
        codes = rounded(e, part, inverse)
        sums.append(e.b.neg(e.call("llvm.vector.reduce.add.v16i32", I32, codes)))
        words = e.cast(e.b.trunc(codes, ir.VectorType(I8, 16)), ir.VectorType(I32, 4))
        for j in range(4):
            place = e.b.add(e.b.mul(size, ir.Constant(size.type, 4 * i + j)), member)
            e.store(e.b.extract_element(words, ir.Constant(I32, j)), e.step(to, place, 4))
    after = e.b.add(e.step(to, size, BLOCK), e.b.mul(member, ir.Constant(member.type, 4)))
    for i, value in enumerate((scale, e.b.add(*sums), *sums)):
        e.store(value, e.b.add(after, e.b.mul(size, ir.Constant(size.type, 4 * i))))


@inline(types.void, types.intp, types.intp, types.intp, types.intp)
def round_block(e: Emitter, x: Value, to: Value, size: Value, member: Value) -> None:
    """`emit_round` of 32 floats at x."""
    emit_round(e, [e.load(VF, x, 64 * i) for i in (0, 1)], to, size, member)


@register_jitable(forceinline=True)
def round_token(x: int, codes: int, token: int, tokens: int, columns: int) -> None:
    """A row of floats at x [columns] -> its place among the codes of a step."""
    first, size = tile_of(token, tokens)
    blocks = columns // BLOCK
    tile = codes + first * blocks * TOKEN_BYTES
    for b in range(blocks):
        round_block(x + 4 * BLOCK * b, tile + b * size * TOKEN_BYTES, size, token - first)


@kernel(x=ADDRESS, codes=ADDRESS, tokens=COUNT, columns=COUNT)
def round_rows(args: Any, piece: int) -> None:
    """codes of x [tokens, columns]; a piece is a token."""
    a = record(args)
    round_token(a.x + 4 * piece * a.columns, a.codes, piece, a.tokens, a.columns)


def dequantized(codes: npt.NDArray[np.uint8], tokens: int, columns: int) -> tuple[np.ndarray, Floats]:
    """What codes say, for people and tests: int8 [tokens, columns] and scales [tokens, columns / 32]."""
    values = np.empty((tokens, columns // BLOCK, BLOCK), np.int8)
    scales = np.empty((tokens, columns // BLOCK), np.float32)
    at = first = 0
    while first < tokens:
        size = tile_of(first, tokens)[1]
        tile = codes[at : at + size * values.shape[1] * TOKEN_BYTES].reshape(values.shape[1], -1)
        whole = tile[:, : size * BLOCK].view(np.int8).reshape(-1, BLOCK // 4, size, 4)
        values[first : first + size] = whole.transpose(2, 0, 1, 3).reshape(size, -1, BLOCK)
        scales[first : first + size] = tile[:, size * BLOCK : size * (BLOCK + 4)].copy().view(np.float32).T
        at, first = at + tile.size, first + size
    return values.reshape(tokens, columns), scales
