"""int8 activations: blocks of 32 along the row, one float32 scale each, and exact sums of 16 for the formats
whose weights have an offset."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from ..contract import Floats, Ints

BLOCK = 32
SUM = 16  # the smallest group of a weight format (Q6_K)
_LARGEST = np.float32(127)
_MAGNITUDE = np.int32(0x7FFFFFFF)
_ROUND = np.float32(12582912.0)  # 1.5 * 2^23: adding it rounds to the nearest integer, ties to even


@dataclass(frozen=True)
class Quantized:
    """x [T, n] as codes int8 [T, n], scales [T, n/32] and sums of codes int32 [T, n/16]."""

    codes: npt.NDArray[np.int8]
    scales: Floats
    sums: Ints


def quantize(x: Floats) -> Quantized:
    """Round x [T, n] to int8; n divides by 32. A row's codes depend on that row only."""
    rows, n = x.shape
    made = Quantized(
        np.empty((rows, n), np.int8),
        np.empty((rows, n // BLOCK), np.float32),
        np.empty((rows, n // SUM), np.int32),
    )
    _quantize(x, made.codes, made.scales, made.sums)
    return made


@njit(cache=True, nogil=True, error_model="numpy")
def _quantize(x: np.ndarray, codes: np.ndarray, scales: np.ndarray, sums: np.ndarray) -> None:
    bits = x.view(np.int32)
    for t in range(x.shape[0]):
        for b in range(x.shape[1] // BLOCK):
            # Without their sign bit, floats are in the order of their bits, and NaN is above all: it must get
            # into the scale, or a damaged model would answer as if it were whole.
            largest = np.int32(0)
            for i in range(b * BLOCK, (b + 1) * BLOCK):
                largest = max(largest, bits[t, i] & _MAGNITUDE)
            peak = np.int32(largest).view(np.float32)
            scale = np.float32(peak / _LARGEST)
            inverse = np.float32(_LARGEST / peak) if peak > 0 else np.float32(0)
            scales[t, b] = scale
            for i in range(b * BLOCK, (b + 1) * BLOCK):
                rounded = np.float32(np.float32(np.float32(x[t, i] * inverse) + _ROUND) - _ROUND)
                codes[t, i] = np.int8(np.int32(rounded))
        for g in range(x.shape[1] // SUM):
            total = np.int32(0)
            for i in range(g * SUM, (g + 1) * SUM):
                total += np.int32(codes[t, i])
            sums[t, g] = total
