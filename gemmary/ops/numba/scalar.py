"""Scalar float32 arithmetic with defined bits: fused multiply-add, exp, the gated GELU.

Every rounding is spelled out, so that a vectorised or hand-written kernel gives the same bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

_F32 = ir.FloatType()


def _fma(_typing: Any, a: Any, b: Any, c: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(_F32, [_F32] * 3)
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.fma.f32"), args)

    return types.float32(types.float32, types.float32, types.float32), generate


fma: Any = intrinsic(_fma)  # (a, b, c) -> a * b + c in float32, with one rounding

_LOG2E = np.float32(1.4426950408889634)
_LN2_HIGH = np.float32(-0.693359375)
_LN2_LOW = np.float32(2.12194440e-4)
_ROUND = np.float32(12582912.0)  # 1.5 * 2^23: adding it rounds to the nearest integer
_C2, _C3, _C4 = np.float32(0.5), np.float32(1.6666665459e-1), np.float32(4.1665795894e-2)
_C5, _C6, _C7 = np.float32(8.3334519073e-3), np.float32(1.3981999507e-3), np.float32(1.9875691500e-4)
_ONE, _TWO, _HALF = np.float32(1), np.float32(2), np.float32(0.5)


@njit(inline="always", error_model="numpy")
def exp(x: np.float32) -> np.float32:
    """e^x within 2 ulp; x is held to [-87, 88], so the result is always finite and normal."""
    x = min(max(x, np.float32(-87.0)), np.float32(88.0))
    shifted = fma(x, _LOG2E, _ROUND)
    n = np.float32(shifted - _ROUND)
    r = fma(n, _LN2_LOW, fma(n, _LN2_HIGH, x))
    p = fma(_C7, r, _C6)
    p = fma(p, r, _C5)
    p = fma(p, r, _C4)
    p = fma(p, r, _C3)
    p = fma(p, r, _C2)
    p = fma(p, np.float32(r * r), np.float32(r + _ONE))
    power = np.int32((np.int32(n) + np.int32(127)) << np.int32(23))
    return np.float32(p * np.int32(power).view(np.float32))


@njit(inline="always", error_model="numpy")
def gelu(z: np.float32) -> np.float32:
    """0.5 z (1 + tanh(sqrt(2/pi) (z + 0.044715 z^3))), with tanh(y) = 1 - 2 / (e^2y + 1)."""
    cube = np.float32(np.float32(z * z) * z)
    y = np.float32(np.float32(0.7978845608) * fma(np.float32(0.044715), cube, z))
    tanh = np.float32(_ONE - np.float32(_TWO / np.float32(exp(np.float32(_TWO * y)) + _ONE)))
    return np.float32(np.float32(_HALF * z) * np.float32(_ONE + tanh))
