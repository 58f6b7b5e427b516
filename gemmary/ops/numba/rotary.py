"""QK-norm and half-split RoPE (spec 2.3) over the heads of each token."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

import numpy as np
from numba.extending import register_jitable

from ...config import Rope
from ..contract import Floats, Ints
from .kernel import ADDRESS, COUNT, NUMBER, floats_at, kernel, record
from .norm import inverse_rms

_TOGETHER = 32  # positions whose angles are computed at once when tokens come one by one


@cache
def _frequencies(rope: Rope, head_dim: int) -> Floats:
    half = np.arange(head_dim // 2, dtype=np.float32) / np.float32(head_dim // 2)
    frequency: Floats = (1.0 / np.float64(rope.theta) ** half.astype(np.float64)).astype(np.float32)
    return frequency / np.float32(rope.factor)


def angles(pos: Ints, rope: Rope, head_dim: int) -> Floats:
    """Cosines and sines [T, 2, H/2]; angles are float32 products of position and frequency (transformers)."""
    if len(pos) == 1:
        position = int(pos[0])
        return _neighbours(position // _TOGETHER, rope, head_dim)[position % _TOGETHER, None].copy()
    wide = (pos[:, None].astype(np.float32) * _frequencies(rope, head_dim)).astype(np.float64)
    return np.stack([np.cos(wide), np.sin(wide)], 1).astype(np.float32)


@lru_cache(maxsize=64)
def _neighbours(block: int, rope: Rope, head_dim: int) -> Floats:
    """The angles of some positions in a row: a text that grows token by token will want them all."""
    return angles(np.arange(block * _TOGETHER, (block + 1) * _TOGETHER, dtype=np.int32), rope, head_dim)


@kernel(
    q=ADDRESS, k=ADDRESS, q_gain=ADDRESS, k_gain=ADDRESS, q_eps=NUMBER, k_eps=NUMBER, angles=ADDRESS,
    q_out=ADDRESS, k_out=ADDRESS, q_heads=COUNT, k_heads=COUNT, head=COUNT,
)  # fmt: skip
def rotate(args: Any, piece: int) -> None:
    """Normalise and rotate every head of q and k, a token a piece."""
    a = record(args)
    turn = floats_at(a.angles + 4 * a.head * piece, a.head)
    for n in range(a.q_heads):
        at = 4 * a.head * (piece * a.q_heads + n)
        _rotate_head(a.q + at, a.q_gain, a.q_eps, turn, a.q_out + at, a.head)
    for n in range(a.k_heads):
        at = 4 * a.head * (piece * a.k_heads + n)
        _rotate_head(a.k + at, a.k_gain, a.k_eps, turn, a.k_out + at, a.head)


@register_jitable
def _rotate_head(source: int, gains: int, eps: np.float32, turn: np.ndarray, target: int, head: int) -> None:
    x, gain, out, half = floats_at(source, head), floats_at(gains, head), floats_at(target, head), head // 2
    scale = inverse_rms(x, 0, head, eps)
    for j in range(half):
        first = np.float32(np.float32(x[j] * scale) * gain[j])
        second = np.float32(np.float32(x[half + j] * scale) * gain[half + j])
        c, s = turn[j], turn[half + j]
        out[j] = np.float32(np.float32(first * c) - np.float32(second * s))
        out[half + j] = np.float32(np.float32(second * c) + np.float32(first * s))
