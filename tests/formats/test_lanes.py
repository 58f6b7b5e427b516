"""Sixteen bytes at once do what NumPy does to each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gemmary.formats.jit import compiled
from gemmary.formats.lanes import field, flags, join, less, load, spread, store

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]


@compiled
def combine(low: Bytes, high: Bytes, bits: int, out: Bytes) -> None:
    store(out, 1, load(low, 1))
    store(out, 17, field(load(low, 1), 3, 21))
    store(out, 33, join(load(low, 1), load(high, 0), 5))
    store(out, 49, less(load(low, 1), 200))
    store(out, 65, flags(np.uint16(bits)))


@compiled
def spread_once(
    codes: NDArray[np.int8], scale: np.float32, add: np.float32, out: NDArray[np.float32]
) -> None:
    spread(load(codes, 0), scale, add, out, 3)


def test_bytes() -> None:
    draw = np.random.default_rng(1)
    low = draw.integers(0, 256, 17, dtype=np.uint8)
    high = draw.integers(0, 256, 16, dtype=np.uint8)
    out = np.full(83, 77, np.uint8)
    combine(low, high, 0b1010_0000_1111_0001, out)
    flags_ = [1, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 0, 1, 0, 1]
    expected = [low[1:], (low[1:] >> 3) & 21, low[1:] | (high << 5), low[1:] - np.uint8(200), flags_]
    assert out[1:81].reshape(5, 16).tolist() == [list(row) for row in expected]
    assert out[0] == 77 and (out[81:] == 77).all()


def test_values_are_rounded_twice() -> None:
    codes = np.array([-128, 127, 0, -1, *range(12)], np.int8)
    scale, add = np.float32(0.1), np.float32(-12.7)
    out = np.full(20, 5, np.float32)
    spread_once(codes, scale, add, out)
    assert np.array_equal(out[3:19], codes.astype(np.float32) * scale + add)
    fused = (codes.astype(np.float64) * scale + add).astype(np.float32)
    assert not np.array_equal(out[3:19], fused), "these numbers cannot tell one rounding from two"
    assert (out[:3] == 5).all() and out[19] == 5
