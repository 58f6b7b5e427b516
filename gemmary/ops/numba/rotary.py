"""QK-norm and half-split RoPE (spec 2.3), in place over the heads of each token."""

from __future__ import annotations

import numpy as np
from numba import njit

from ...config import Rope
from ..contract import Floats, Ints
from .norm import inverse_rms


def angles(pos: Ints, rope: Rope, head_dim: int) -> tuple[Floats, Floats]:
    """Cosines and sines [T, H/2]; angles are float32 products of position and frequency (transformers)."""
    half = np.arange(head_dim // 2, dtype=np.float32) / np.float32(head_dim // 2)
    frequency = (1.0 / np.float64(rope.theta) ** half.astype(np.float64)).astype(np.float32)
    angle = pos[:, None].astype(np.float32) * (frequency / np.float32(rope.factor))
    wide = angle.astype(np.float64)
    return np.cos(wide).astype(np.float32), np.sin(wide).astype(np.float32)


@njit(cache=True, nogil=True, error_model="numpy")
def rotate(
    x: np.ndarray, gain: np.ndarray, eps: np.float32, cos: np.ndarray, sin: np.ndarray, out: np.ndarray
) -> None:
    """Normalise and rotate every head of x [T, heads * H]."""
    flat = x.reshape(-1)
    rows, width = x.shape
    head = len(gain)
    half = head // 2
    for t in range(rows):
        for start in range(0, width, head):
            scale = inverse_rms(flat, t * width + start, head, eps)
            for j in range(half):
                a = np.float32(np.float32(x[t, start + j] * scale) * gain[j])
                b = np.float32(np.float32(x[t, start + half + j] * scale) * gain[half + j])
                c, s = cos[t, j], sin[t, j]
                out[t, start + j] = np.float32(np.float32(a * c) - np.float32(b * s))
                out[t, start + half + j] = np.float32(np.float32(b * c) + np.float32(a * s))
