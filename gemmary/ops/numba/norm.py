"""RMSNorm rows. The sum of squares runs in sixteen lanes and a fixed tree (see `vector`)."""

from __future__ import annotations

import numpy as np
from numba import njit

from .vector import dot_f32

_ONE = np.float32(1)


@njit(inline="always", error_model="numpy")
def inverse_rms(flat: np.ndarray, at: int, n: int, eps: np.float32) -> np.float32:
    """(mean(x^2) + eps)^-0.5 of n elements from `at`."""
    mean = np.float32(dot_f32(flat, at, flat, at, n) / np.float32(n))
    return np.float32(_ONE / np.sqrt(np.float32(mean + eps)))


@njit(cache=True, nogil=True, error_model="numpy")
def normalise(x: np.ndarray, gain: np.ndarray, eps: np.float32, out: np.ndarray) -> None:
    """out = x * inverse_rms(x) * gain for each row of x [T, D]."""
    flat = x.reshape(-1)
    rows, n = x.shape
    for t in range(rows):
        scale = inverse_rms(flat, t * n, n, eps)
        for i in range(n):
            out[t, i] = np.float32(np.float32(x[t, i] * scale) * gain[i])


@njit(cache=True, nogil=True, error_model="numpy")
def add_normalised(x: np.ndarray, y: np.ndarray, gain: np.ndarray, eps: np.float32, out: np.ndarray) -> None:
    """out = x + y * inverse_rms(y) * gain, row by row [T, D]."""
    flat = y.reshape(-1)
    rows, n = x.shape
    for t in range(rows):
        scale = inverse_rms(flat, t * n, n, eps)
        for i in range(n):
            out[t, i] = np.float32(x[t, i] + np.float32(np.float32(y[t, i] * scale) * gain[i]))
