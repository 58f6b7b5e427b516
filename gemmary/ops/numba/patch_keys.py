"""Keys and values of a picture's patches in int8, as its attention reads them.

All patches of a picture see each other, so the mean key changes no softmax, and the mean value comes out
unchanged: both are taken off before rounding. That removes what all patches share, which is most of what
makes some columns of a head large. A key has a scale of its own; a column of values has one for each block of
keys.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.extending import register_jitable

from .bands import inverse_of, nearest, peak
from .instructions import chosen
from .kernel import ADDRESS, COUNT, bytes_at, floats_at, ints_at, kernel, record

KEYS = 128  # of a block: what they give a row is folded at once
KEY_TILE = 8  # keys whose scores grow side by side
COLUMNS = 8  # of values whose sums grow side by side
QUADS = KEYS // 4  # words of four keys
LOWEST = -3.4028234663852886e38

# A tile of keys: words of four columns [columns / 4][8 keys], then 8 each of: scale, what is added to a score
# (0, or LOWEST where there is no key), and where its integer sum begins.
KEY_TAIL = 3 * 4 * KEY_TILE
# A block of values: words of four keys [columns / 8][32][8], the sums that columns begin at, their scales;
# then for each four keys ones, 0 where there is no key, and where their sum begins (16 bytes with padding).
ONES_BYTES = 4 * QUADS + 16

_BIAS = chosen.SIGNED_BIAS


@register_jitable(forceinline=True)
def words_of(head: int) -> int:
    """Words of four columns of a key."""
    return (head + 3) // 4


@register_jitable(forceinline=True)
def padded_of(head: int) -> int:
    """Columns of a value, those that fill the last tile too."""
    return (head + COLUMNS - 1) // COLUMNS * COLUMNS


@register_jitable(forceinline=True)
def tile_bytes(head: int) -> int:
    """Bytes of a tile of keys."""
    return words_of(head) * 4 * KEY_TILE + KEY_TAIL


@register_jitable(forceinline=True)
def block_bytes(head: int) -> int:
    """Bytes of a block of values."""
    return padded_of(head) * (KEYS + 8) + ONES_BYTES


@register_jitable(forceinline=True)
def keys_bytes(patches: int, head: int) -> int:
    """Bytes of a picture's keys, of one head."""
    return (patches + KEYS - 1) // KEYS * (KEYS // KEY_TILE) * tile_bytes(head)


@register_jitable(forceinline=True)
def values_bytes(patches: int, head: int) -> int:
    """Bytes of a picture's values, of one head."""
    return (patches + KEYS - 1) // KEYS * block_bytes(head)


@kernel(
    k=ADDRESS, v=ADDRESS, keys=ADDRESS, values=ADDRESS, means=ADDRESS, patches=COUNT, heads=COUNT, head=COUNT
)
def round_keys(args: Any, piece: int) -> None:
    """Pack one head of one picture: k, v [pictures * patches, heads * head].

    means [pictures, heads, head] gets the mean value, or NaN where a key is not finite.
    """
    a = record(args)
    first, row = 4 * a.head * (piece % a.heads), 4 * a.head * a.heads
    first += row * a.patches * (piece // a.heads)
    mean, centred = np.empty(a.head, np.float32), np.zeros(padded_of(a.head), np.float32)
    _mean(a.k + first, row, a.patches, mean)
    keys = a.keys + piece * keys_bytes(a.patches, a.head)
    damage = _round_all_keys(a.k + first, row, a.patches, mean, centred[: a.head], keys)
    _mean(a.v + first, row, a.patches, mean)
    values = a.values + piece * values_bytes(a.patches, a.head)
    for block in range((a.patches + KEYS - 1) // KEYS):
        source, count = a.v + first + row * KEYS * block, min(KEYS, a.patches - KEYS * block)
        _round_block(source, row, count, mean, centred, values + block * block_bytes(a.head))
    kept = floats_at(a.means + 4 * a.head * piece, a.head)
    for c in range(a.head):
        kept[c] = np.float32(mean[c] + damage)


@register_jitable
def _mean(x: int, row: int, count: int, mean: np.ndarray) -> None:
    """Of rows, added in order."""
    mean[:] = np.float32(0)
    for t in range(count):
        values = floats_at(x + row * t, len(mean))
        for c in range(len(mean)):
            mean[c] = np.float32(mean[c] + values[c])
    for c in range(len(mean)):
        mean[c] = np.float32(mean[c] / np.float32(count))


@register_jitable
def _centre(x: int, mean: np.ndarray, out: np.ndarray) -> None:
    values = floats_at(x, len(mean))
    for c in range(len(mean)):
        out[c] = np.float32(values[c] - mean[c])


@register_jitable
def _round_all_keys(
    k: int, row: int, count: int, mean: np.ndarray, centred: np.ndarray, keys: int
) -> np.float32:
    """Tiles of keys; 0, or NaN where a key is not finite."""
    words, damage = words_of(len(mean)), np.float32(0)
    nbytes = words * 4 * KEY_TILE
    for t in range((count + KEY_TILE - 1) // KEY_TILE * KEY_TILE):
        place = keys + t // KEY_TILE * tile_bytes(len(mean))
        tile, n = bytes_at(place, nbytes), t % KEY_TILE
        scales, offsets = floats_at(place + nbytes, KEY_TILE), floats_at(place + nbytes + 32, KEY_TILE)
        starts = ints_at(place + nbytes + 64, KEY_TILE)
        if n == 0:
            tile[:] = np.uint8(0)
        scales[n], offsets[n], starts[n] = np.float32(0), np.float32(LOWEST), np.int32(0)
        if t < count:
            _centre(k + row * t, mean, centred)
            most, total = peak(centred), np.int32(0)
            inverse = inverse_of(most)
            for c in range(len(centred)):
                code = nearest(np.float32(centred[c] * inverse))
                tile[c // 4 * 4 * KEY_TILE + 4 * n + c % 4] = np.uint8(code & 0xFF)
                total += code
            scales[n], offsets[n] = np.float32(most / np.float32(127)), np.float32(0)
            starts[n] = np.int32(-_BIAS * total)
            damage = np.float32(damage + np.float32(scales[n] * np.float32(0)))
    return damage


@register_jitable
def _round_block(v: int, row: int, count: int, mean: np.ndarray, centred: np.ndarray, block: int) -> None:
    """One block of values; columns that fill the last tile are zeros, and keys that there are not."""
    head, padded = len(mean), len(centred)
    codes = bytes_at(block, KEYS * padded)
    starts, scales = ints_at(block + KEYS * padded, padded), floats_at(block + (KEYS + 4) * padded, padded)
    most = np.zeros(padded, np.int32)
    for t in range(count):
        _centre(v + row * t, mean, centred[:head])
        bits = centred.view(np.int32)
        for c in range(padded):
            most[c] = max(most[c], np.int32(bits[c] & np.int32(0x7FFFFFFF)))
    inverses, peaks = np.empty(padded, np.float32), most.view(np.float32)
    for c in range(padded):
        scales[c] = np.float32(peaks[c] / np.float32(127))
        inverses[c], most[c] = inverse_of(peaks[c]), np.int32(0)
    codes[:] = np.uint8(0)
    for t in range(count):
        _centre(v + row * t, mean, centred[:head])
        for c in range(padded):
            code = nearest(np.float32(centred[c] * inverses[c]))
            most[c] += code
            codes[c // COLUMNS * KEYS * COLUMNS + t // 4 * 4 * COLUMNS + c % COLUMNS * 4 + t % 4] = np.uint8(
                code & 0xFF
            )
    for c in range(padded):
        starts[c] = np.int32(0 if _BIAS else 128 * most[c])
    ones = bytes_at(block + (KEYS + 8) * padded, 4 * QUADS)
    for t in range(KEYS):
        ones[t] = np.uint8(1 if t < count else 0)
    ints_at(block + (KEYS + 8) * padded + 4 * QUADS, 1)[0] = np.int32(0 if _BIAS else 128 * count)
