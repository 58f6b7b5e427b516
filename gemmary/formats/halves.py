"""16-bit floats and float32, in integer arithmetic: compiled code has no float16 type.

A half has 1 sign, 5 exponent (bias 15) and 10 mantissa bits; float32 has 1, 8 (bias 127) and 23; bfloat16 is
the upper half of a float32. Narrowing rounds to the nearest, ties to even.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gemmary.formats.jit import compiled, inlined

Bits16 = npt.NDArray[np.uint16]
Floats = npt.NDArray[np.float32]

SIGN = np.uint32(0x8000_0000)
INFINITY = np.uint32(0x7F80_0000)  # bits of a float32
REBIAS = np.float32(2.0**112)  # 127 - 15
SMALLEST_NORMAL = np.uint32(0x3880_0000)  # 2^-14, the smallest normal half
TOO_LARGE = np.uint32(0x4780_0000)  # 2^16; from 65520 to here, rounding itself carries into infinity
RULER = np.uint32(0x3F00_0000)  # 0.5: adding it rounds to 2^-24, the smallest half


@inlined
def half_to_float(half: np.uint16) -> np.float32:
    """The float32 with the value of an IEEE half, given as its bits. NaN keeps its payload."""
    bits = np.uint32(half)
    shifted = np.uint32((bits & np.uint32(0x7FFF)) << np.uint32(13))
    finite = np.float32(shifted.view(np.float32) * REBIAS).view(np.uint32)
    magnitude = finite if shifted < np.uint32(0x0F80_0000) else np.uint32(shifted | INFINITY)
    sign = np.uint32((bits & np.uint32(0x8000)) << np.uint32(16))
    return np.uint32(magnitude | sign).view(np.float32)


@inlined
def bfloat_to_float(bfloat: np.uint16) -> np.float32:
    """The float32 with the value of a bfloat16, given as its bits."""
    # The outer cast stays: a shift of two uint32 is a uint64 for Numba.
    return np.uint32(np.uint32(bfloat) << np.uint32(16)).view(np.float32)


@inlined
def float_to_half(value: np.float32) -> np.uint16:
    """The bits of the half nearest to a float32; infinity from 65520 on; any NaN becomes a quiet one."""
    bits = np.float32(value).view(np.uint32)
    sign = np.uint16(np.uint32(bits & SIGN) >> np.uint32(16))
    magnitude = np.uint32(bits & ~SIGN)
    if magnitude > INFINITY:
        half = np.uint32(0x7E00)
    elif magnitude >= TOO_LARGE:
        half = np.uint32(0x7C00)
    elif magnitude < SMALLEST_NORMAL:
        ruled = np.float32(magnitude.view(np.float32) + np.float32(0.5))
        half = np.uint32(ruled.view(np.uint32) - RULER)
    else:
        odd = np.uint32(magnitude >> np.uint32(13)) & np.uint32(1)
        rebiased = np.uint32(magnitude - np.uint32(112 << 23))
        half = np.uint32(np.uint32(rebiased + np.uint32(0xFFF) + odd) >> np.uint32(13))
    return np.uint16(half | sign)


@inlined
def float_to_bfloat(value: np.float32) -> np.uint16:
    """The bits of the bfloat16 nearest to a float32; NaN is made quiet and keeps its upper payload."""
    bits = np.float32(value).view(np.uint32)
    if np.uint32(bits & ~SIGN) > INFINITY:
        return np.uint16(np.uint32(bits >> np.uint32(16)) | np.uint32(0x40))
    odd = np.uint32(bits >> np.uint32(16)) & np.uint32(1)
    return np.uint16(np.uint32(bits + np.uint32(0x7FFF) + odd) >> np.uint32(16))


@compiled
def widen_halves(halves: Bits16, out: Floats) -> None:
    """Write the values of halves, given as bits, to `out`; both 1-D."""
    for i in range(halves.size):
        out[i] = half_to_float(halves[i])


@compiled
def widen_bfloats(bfloats: Bits16, out: Floats) -> None:
    """Write the values of bfloat16s, given as bits, to `out`; both 1-D."""
    for i in range(bfloats.size):
        out[i] = bfloat_to_float(bfloats[i])


@compiled
def narrow_to_bfloats(values: Floats, out: Bits16) -> None:
    """Write the bits of the nearest bfloat16s to `out`; both 1-D."""
    for i in range(values.size):
        out[i] = float_to_bfloat(values[i])
