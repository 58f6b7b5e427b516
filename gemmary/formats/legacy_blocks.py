"""Blocks of 32 values with one scale: Q4_0 Q4_1 Q5_0 Q5_1 Q8_0, one block at a time.

Layouts (ggml-common.h); `d` and `m` are halves, all little-endian:

    Q4_0  d            nibbles[16]   d * (q - 8)
    Q4_1  d m          nibbles[16]   d * q + m
    Q5_0  d   fifth[4] nibbles[16]   d * (q - 16)
    Q5_1  d m fifth[4] nibbles[16]   d * q + m
    Q8_0  d            int8[32]      d * q

The low nibble of byte j is element j, the high one element 16 + j; bit e of `fifth` is bit 4 of element e.

`unpack_*(raw, offset, q, scale, add)` reads the block at byte `offset` of `raw` (uint8, 1-D) into `q` (int8,
at least 32), `scale` and `add` (float32, at least 1), such that scale * q + add, rounded twice in float32, is
the value. `pack_*(values, block)` writes float32 [32], all finite, to uint8 [bytes of the block], bit for bit
as ggml's reference quantizers do. Arrays are contiguous; nobody here checks bounds.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gemmary.formats.halves import Floats, float_to_half, half_to_float
from gemmary.formats.jit import inlined
from gemmary.formats.lanes import field, flags, join, less, load, store

Bytes = npt.NDArray[np.uint8]
Codes = npt.NDArray[np.int8]

# What a format without an offset adds. Not 0.0: a negative scale times code 0 is -0.0, and -0.0 + 0.0 is 0.0.
NOTHING = np.float32(-0.0)


@inlined
def bits_at(raw: Bytes, at: int) -> np.uint16:
    """The 16-bit number at byte `at`."""
    return np.uint16(raw[at] | (np.uint16(raw[at + 1]) << np.uint16(8)))


@inlined
def half_at(raw: Bytes, at: int) -> np.float32:
    """The half at byte `at`."""
    return half_to_float(bits_at(raw, at))


@inlined
def unpack_nibbles(raw: Bytes, at: int, zero: int, q: Codes) -> None:
    """32 codes, less `zero`, from 16 bytes."""
    pairs = load(raw, at)
    store(q, 0, less(field(pairs, 0, 15), zero))
    store(q, 16, less(field(pairs, 4, 15), zero))


@inlined
def unpack_fives(raw: Bytes, at: int, zero: int, q: Codes) -> None:
    """32 codes, less `zero`, from 4 bytes of fifth bits and 16 bytes of nibbles."""
    pairs = load(raw, at + 4)
    store(q, 0, less(join(field(pairs, 0, 15), flags(bits_at(raw, at)), 4), zero))
    store(q, 16, less(join(field(pairs, 4, 15), flags(bits_at(raw, at + 2)), 4), zero))


@inlined
def unpack_q4_0(raw: Bytes, offset: int, q: Codes, scale: Floats, add: Floats) -> None:
    """18 bytes; codes -8..7."""
    scale[0] = half_at(raw, offset)
    add[0] = NOTHING
    unpack_nibbles(raw, offset + 2, 8, q)


@inlined
def unpack_q4_1(raw: Bytes, offset: int, q: Codes, scale: Floats, add: Floats) -> None:
    """20 bytes; codes 0..15."""
    scale[0] = half_at(raw, offset)
    add[0] = half_at(raw, offset + 2)
    unpack_nibbles(raw, offset + 4, 0, q)


@inlined
def unpack_q5_0(raw: Bytes, offset: int, q: Codes, scale: Floats, add: Floats) -> None:
    """22 bytes; codes -16..15."""
    scale[0] = half_at(raw, offset)
    add[0] = NOTHING
    unpack_fives(raw, offset + 2, 16, q)


@inlined
def unpack_q5_1(raw: Bytes, offset: int, q: Codes, scale: Floats, add: Floats) -> None:
    """24 bytes; codes 0..31."""
    scale[0] = half_at(raw, offset)
    add[0] = half_at(raw, offset + 2)
    unpack_fives(raw, offset + 4, 0, q)


@inlined
def unpack_q8_0(raw: Bytes, offset: int, q: Codes, scale: Floats, add: Floats) -> None:
    """34 bytes; codes -128..127."""
    scale[0] = half_at(raw, offset)
    add[0] = NOTHING
    store(q, 0, load(raw, offset + 2))
    store(q, 16, load(raw, offset + 18))


@inlined
def put_half(block: Bytes, at: int, value: np.float32) -> None:
    """Write the half nearest to `value` to byte `at`."""
    half = float_to_half(value)
    block[at] = np.uint8(half & np.uint16(0xFF))
    block[at + 1] = np.uint8(half >> np.uint16(8))


@inlined
def inverse(d: np.float32) -> np.float32:
    """1 / d, or 0 for 0; infinite for the least subnormals."""
    if d == np.float32(0):
        return np.float32(0)
    return np.float32(1) / d


@inlined
def code(x: np.float32, top: int) -> int:
    """x without its fraction, at most `top`. 0 where an infinite inverse made x infinite or NaN."""
    return min(int(x), top) if np.abs(x) < np.float32(256) else 0


@inlined
def peak(values: Floats) -> np.float32:
    """The value with the largest magnitude, with its sign; the first of equals."""
    found = np.float32(values[0])
    for j in range(1, 32):
        if np.abs(values[j]) > np.abs(found):
            found = np.float32(values[j])
    return found


@inlined
def span(values: Floats) -> tuple[np.float32, np.float32]:
    """The least and the largest value; of a zero and a negative zero, the first."""
    low = high = values[0]
    for j in range(1, 32):
        low = values[j] if values[j] < low else low
        high = values[j] if values[j] > high else high
    return low, high


@inlined
def put_codes(
    values: Floats, low: np.float32, d: np.float32, half: np.float32, top: int, pairs: Bytes
) -> int:
    """Write the nibbles of trunc((x - low) / d + half), at most `top`, to 16 bytes; return the fifth bits."""
    inv = inverse(d)
    fifth = 0
    for j in range(16):
        a = code((values[j] - low) * inv + half, top)
        b = code((values[16 + j] - low) * inv + half, top)
        pairs[j] = np.uint8((a & 15) | ((b & 15) << 4))
        fifth |= ((a >> 4) << j) | ((b >> 4) << (16 + j))
    return fifth


@inlined
def put_fifth(block: Bytes, at: int, fifth: int) -> None:
    """Write 32 bits to byte `at`."""
    for k in range(4):
        block[at + k] = np.uint8((fifth >> (8 * k)) & 255)


@inlined
def pack_q4_0(values: Floats, block: Bytes) -> None:
    """The value of largest magnitude gets code -8."""
    d = peak(values) / np.float32(-8)
    put_half(block, 0, d)
    put_codes(values, np.float32(0), d, np.float32(8.5), 15, block[2:])


@inlined
def pack_q4_1(values: Floats, block: Bytes) -> None:
    """The least value gets code 0, the largest 15."""
    low, high = span(values)
    d = (high - low) / np.float32(15)
    put_half(block, 0, d)
    put_half(block, 2, low)
    put_codes(values, low, d, np.float32(0.5), 15, block[4:])


@inlined
def pack_q5_0(values: Floats, block: Bytes) -> None:
    """The value of largest magnitude gets code -16."""
    d = peak(values) / np.float32(-16)
    put_half(block, 0, d)
    put_fifth(block, 2, put_codes(values, np.float32(0), d, np.float32(16.5), 31, block[6:]))


@inlined
def pack_q5_1(values: Floats, block: Bytes) -> None:
    """The least value gets code 0, the largest 31."""
    low, high = span(values)
    d = (high - low) / np.float32(31)
    put_half(block, 0, d)
    put_half(block, 2, low)
    put_fifth(block, 4, put_codes(values, low, d, np.float32(0.5), 31, block[8:]))


@inlined
def pack_q8_0(values: Floats, block: Bytes) -> None:
    """The largest magnitude gets code 127 or -127; halves round away from zero."""
    d = np.abs(peak(values)) / np.float32(127)
    inv = inverse(d)
    put_half(block, 0, d)
    for j in range(32):
        x = values[j] * inv
        whole = np.floor(np.abs(x))
        size = code(whole + np.floor(np.float32(2) * (np.abs(x) - whole)), 127)
        block[2 + j] = np.uint8((-size if x < np.float32(0) else size) & 255)
