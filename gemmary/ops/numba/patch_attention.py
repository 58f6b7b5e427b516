"""Attention among the patches of pictures, in int8, as kernels of a tape.

A patch sees all of its picture, which is 4,096 patches or so, and nothing else. Nothing of the size patches x
patches is ever in memory: 32 query rows go through the keys in blocks of 128 (`patch_tile`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.extending import register_jitable

from ..contract import Floats
from .arena import Arena
from .bands import inverse_of, nearest, peak
from .instructions import chosen
from .kernel import ADDRESS, COUNT, NUMBER, bytes_at, floats_at, kernel, record
from .patch_keys import (
    COLUMNS,
    KEY_TILE,
    KEYS,
    LOWEST,
    block_bytes,
    keys_bytes,
    padded_of,
    round_keys,
    tile_bytes,
    values_bytes,
    words_of,
)
from .patch_tile import BINARY, DENOMINATOR, NATURAL, ROWS, SUMS, TOP, take_block
from .tape import Tape

_BIAS = chosen.SIGNED_BIAS
_LOG2E = np.float32(1.4426950408889634)


def attend_patches(
    tape: Tape, arena: Arena, q: Floats, k: Floats, v: Floats, patches: int, head: int, scale: float
) -> Floats:
    """softmax(scale * q k) v in each picture: [pictures * patches, heads * head], all four arrays."""
    heads, pictures = q.shape[1] // head, len(q) // patches
    each = pictures * heads
    keys = arena.take((each * keys_bytes(patches, head),), np.uint8)
    values = arena.take((each * values_bytes(patches, head),), np.uint8)
    means, out = arena.take((each, head)), arena.take(q.shape)
    shape = {"patches": patches, "heads": heads, "head": head}
    tape.add(round_keys, each, k=k, v=v, keys=keys, values=values, means=means, **shape)
    groups = -(-patches // ROWS)
    tape.add(
        _attend, each * groups, q=q, keys=keys, values=values, means=means, out=out, scale=scale, **shape
    )
    return out


@kernel(
    q=ADDRESS, keys=ADDRESS, values=ADDRESS, means=ADDRESS, out=ADDRESS, patches=COUNT, heads=COUNT,
    head=COUNT, scale=NUMBER,
)  # fmt: skip
def _attend(args: Any, piece: int) -> None:
    """32 rows of one head of one picture."""
    a = record(args)
    groups = (a.patches + ROWS - 1) // ROWS
    each, start = piece // groups, piece % groups * ROWS
    first, row = 4 * a.head * (each % a.heads), 4 * a.head * a.heads
    first += row * (a.patches * (each // a.heads) + start)
    rows, words, columns = min(ROWS, a.patches - start), words_of(a.head), padded_of(a.head) // COLUMNS
    nbytes = SUMS + 4 * ROWS * padded_of(a.head)
    room = np.zeros(nbytes + 4 * ROWS * words + 64, np.uint8)
    state = (room.ctypes.data + 63) // 64 * 64
    query = state + nbytes
    _begin(a.q + first, row, rows, a.head, a.scale, state, query)
    keys = a.keys + each * keys_bytes(a.patches, a.head)
    values = a.values + each * values_bytes(a.patches, a.head)
    for key in range(0, a.patches, KEYS):
        count = min(KEYS, a.patches - key)
        block = values + key // KEYS * block_bytes(a.head)
        tiles, quads = (count + KEY_TILE - 1) // KEY_TILE, (count + 3) // 4
        first_tile = keys + key // KEY_TILE * tile_bytes(a.head)
        take_block(state, query, first_tile, block, words, tiles, quads, columns)
    _finish(a.out + first, row, rows, a.head, floats_at(a.means + 4 * a.head * each, a.head), state)
    room[0] = 0  # an array is given back behind its last use, and addresses are none


@register_jitable
def _begin(q: int, row: int, rows: int, head: int, scale: np.float32, state: int, query: int) -> None:
    """Round query rows, each to a scale of its own; nothing is seen yet."""
    words = words_of(head)
    codes = bytes_at(query, 4 * ROWS * words)
    codes[:] = np.uint8(_BIAS)
    natural, binary = floats_at(state + NATURAL, ROWS), floats_at(state + BINARY, ROWS)
    floats_at(state + TOP, ROWS)[:] = np.float32(LOWEST)
    for r in range(rows):
        x = floats_at(q + row * r, head)
        most = peak(x)
        inverse = inverse_of(most)
        natural[r] = np.float32(np.float32(most / np.float32(127)) * scale)
        binary[r] = np.float32(natural[r] * _LOG2E)
        for c in range(head):
            code = nearest(np.float32(x[c] * inverse))
            codes[c // 4 * 4 * ROWS + 4 * r + c % 4] = np.uint8((code + _BIAS) & 0xFF)


@register_jitable
def _finish(out: int, row: int, rows: int, head: int, mean: np.ndarray, state: int) -> None:
    """Sums of values / sum of exponentials + mean value."""
    total, sums = floats_at(state + DENOMINATOR, ROWS), floats_at(state + SUMS, ROWS * head)
    for r in range(rows):
        to = floats_at(out + row * r, head)
        for c in range(head):
            to[c] = np.float32(np.float32(sums[c * ROWS + r] / total[r]) + mean[c])
