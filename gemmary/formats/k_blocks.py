"""Blocks of 256 values with two levels of scales: Q4_K Q5_K Q6_K, one block at a time. Q6_K is written, too.

Layouts (ggml-common.h); `d` and `dmin` are halves, all little-endian:

    Q4_K  d dmin scales[12]            nibbles[128]   d * sc * q - dmin * mn    8 groups of 32
    Q5_K  d dmin scales[12] fifth[32]  nibbles[128]   d * sc * q - dmin * mn    8 groups of 32
    Q6_K  low[128] high[64] sc[16] d                  d * sc * (q - 32)        16 groups of 16

`unpack_*` are as in `legacy_blocks`, with q int8 [256], scale and add float32 [8], or [16] for Q6_K.
`pack_q6_k` has a search of its own, so its bytes are not ggml's; its error is (tests).
"""

from __future__ import annotations

import numpy as np

from gemmary.formats.fitting import clipped, fitted, largest
from gemmary.formats.halves import Floats
from gemmary.formats.jit import inlined
from gemmary.formats.lanes import field, join, less, load, store
from gemmary.formats.legacy_blocks import NOTHING, Bytes, Codes, half_at, inverse, put_half


@inlined
def unpack_scales(raw: Bytes, offset: int, scale: Floats, add: Floats) -> None:
    """The 8 scales and offsets in the 16 bytes that Q4_K and Q5_K begin with.

    Four bytes hold scales 0..3 and four hold minima 0..3 in their lower 6 bits; their upper 2 bits go above
    the nibbles of the last four bytes, which hold scales (low) and minima (high) 4..7.
    """
    d = half_at(raw, offset)
    dmin = half_at(raw, offset + 2)
    for j in range(4):
        sc = raw[offset + 4 + j]
        mn = raw[offset + 8 + j]
        both = raw[offset + 12 + j]
        scale[j] = d * np.float32(sc & 63)
        scale[4 + j] = d * np.float32((both & 15) | ((sc >> 6) << 4))
        add[j] = -(dmin * np.float32(mn & 63))
        add[4 + j] = -(dmin * np.float32((both >> 4) | ((mn >> 6) << 4)))


@inlined
def unpack_q4_k(raw: Bytes, offset: int, q: Codes, scale: Floats, add: Floats) -> None:
    """144 bytes; codes 0..15. 32 bytes hold a group in their low nibbles, the next in their high ones."""
    unpack_scales(raw, offset, scale, add)
    for group in range(0, 8, 2):
        for j in range(0, 32, 16):
            pairs = load(raw, offset + 16 + 16 * group + j)
            store(q, 32 * group + j, field(pairs, 0, 15))
            store(q, 32 * group + 32 + j, field(pairs, 4, 15))


@inlined
def unpack_q5_k(raw: Bytes, offset: int, q: Codes, scale: Floats, add: Floats) -> None:
    """176 bytes; codes 0..31. As Q4_K, and bit g of fifth[j] belongs to element j of group g."""
    unpack_scales(raw, offset, scale, add)
    for group in range(0, 8, 2):
        for j in range(0, 32, 16):
            fifths = load(raw, offset + 16 + j)
            pairs = load(raw, offset + 48 + 16 * group + j)
            store(q, 32 * group + j, join(field(pairs, 0, 15), field(fifths, group, 1), 4))
            store(q, 32 * group + 32 + j, join(field(pairs, 4, 15), field(fifths, group + 1, 1), 4))


@inlined
def unpack_q6_k(raw: Bytes, offset: int, q: Codes, scale: Floats, add: Floats) -> None:
    """210 bytes; codes -32..31. 64 low and 32 high bytes hold 128 elements, in four runs of 32."""
    d = half_at(raw, offset + 208)
    for g in range(16):
        scale[g] = d * np.float32(np.int8(raw[offset + 192 + g]))
        add[g] = NOTHING
    for run in range(8):
        for j in range(0, 32, 16):
            low = load(raw, offset + 64 * (run >> 2) + 32 * (run & 1) + j)
            high = load(raw, offset + 128 + 32 * (run >> 2) + j)
            codes = join(field(low, 2 * (run & 2), 15), field(high, 2 * (run & 3), 3), 4)
            store(q, 32 * run + j, less(codes, 32))


@inlined
def pack_q6_k(values: Floats, block: Bytes) -> None:
    """Each group gets the scale that fits it best, as a multiple of d: the largest one is -128 times d."""
    scales = np.empty(16, np.float32)
    for g in range(16):
        scales[g] = fitted(values[16 * g : 16 * g + 16], -32, -31.0, -0.1, 20)
    put_half(block, 208, largest(scales) / np.float32(-128))
    d = half_at(block, 208)
    codes = np.empty(256, np.uint8)
    for g in range(16):
        sc = clipped(scales[g] * inverse(d), -128)
        block[192 + g] = np.uint8(int(sc) & 255)
        inv = inverse(d * sc)
        for j in range(16 * g, 16 * g + 16):
            codes[j] = np.uint8(int(clipped(values[j] * inv, -32)) + 32)
    put_six_bits(codes, block)


@inlined
def put_six_bits(codes: Bytes, block: Bytes) -> None:
    """Write 256 codes 0..63: 128 bytes of low nibbles, then 64 of high pairs, as `unpack_q6_k` reads them."""
    for half in range(2):
        for j in range(32):
            a, b, c, d = (
                codes[128 * half + j],
                codes[128 * half + 32 + j],
                codes[128 * half + 64 + j],
                codes[128 * half + 96 + j],
            )
            block[64 * half + j] = np.uint8((a & 15) | ((c & 15) << 4))
            block[64 * half + 32 + j] = np.uint8((b & 15) | ((d & 15) << 4))
            block[128 + 32 * half + j] = np.uint8(
                (a >> 4) | ((b >> 4) << 2) | ((c >> 4) << 4) | ((d >> 4) << 6)
            )
