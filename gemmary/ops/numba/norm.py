"""RMSNorm of rows. The sum of squares runs in sixteen lanes and a fixed tree (see `vector`)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from .activation import round_token
from .kernel import ADDRESS, COUNT, NUMBER, floats_at, ints_at, kernel, record
from .vector import dot_f32

_ONE = np.float32(1)


@njit(inline="always", error_model="numpy")
def inverse_rms(flat: np.ndarray, at: int, n: int, eps: np.float32) -> np.float32:
    """(mean(x^2) + eps)^-0.5 of n elements from `at`."""
    mean = np.float32(dot_f32(flat, at, flat, at, n) / np.float32(n))
    return np.float32(_ONE / np.sqrt(np.float32(mean + eps)))


@kernel(
    x=ADDRESS, rows=ADDRESS, gain=ADDRESS, eps=NUMBER, out=ADDRESS, codes=ADDRESS, tokens=COUNT, columns=COUNT
)
def normalise(args: Any, piece: int) -> None:
    """out = x * inverse_rms(x) * gain, a token a piece, and its codes where `codes` is not 0.

    `rows` int32 [tokens] chooses rows of x (0: all, in order).
    """
    a = record(args)
    n = a.columns
    source = piece
    if a.rows:
        source = int(ints_at(a.rows, a.tokens)[piece])
    x, gain = floats_at(a.x + 4 * n * source, n), floats_at(a.gain, n)
    out = floats_at(a.out + 4 * n * piece, n)
    scale = inverse_rms(x, 0, n, a.eps)
    for i in range(n):
        out[i] = np.float32(np.float32(x[i] * scale) * gain[i])
    if a.codes:
        round_token(a.out + 4 * n * piece, a.codes, piece, a.tokens, n)


@kernel(x=ADDRESS, y=ADDRESS, gain=ADDRESS, eps=NUMBER, out=ADDRESS, columns=COUNT)
def add_normalised(args: Any, piece: int) -> None:
    """out = x + y * inverse_rms(y) * gain, a token a piece."""
    a = record(args)
    n, at = a.columns, 4 * a.columns * piece
    x, y, gain = floats_at(a.x + at, n), floats_at(a.y + at, n), floats_at(a.gain, n)
    out = floats_at(a.out + at, n)
    scale = inverse_rms(y, 0, n, a.eps)
    for i in range(n):
        out[i] = np.float32(x[i] + np.float32(np.float32(y[i] * scale) * gain[i]))
