"""Dot products in the promised order, at any length and offset."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from gemmary.ops.numba import vector
from tests.ops.numba.exact import dot

LENGTHS = (0, 1, 2, 15, 16, 17, 31, 33, 48, 63, 100)


@njit
def run_f32(w: np.ndarray, at: int, x: np.ndarray, xt: int, n: int) -> np.float32:
    return vector.dot_f32(w, at, x, xt, n)


@njit
def run_f16(w: np.ndarray, at: int, x: np.ndarray, xt: int, n: int) -> np.float32:
    return vector.dot_f16(w, at, x, xt, n)


@njit
def run_bf16(w: np.ndarray, at: int, x: np.ndarray, xt: int, n: int) -> np.float32:
    return vector.dot_bf16(w, at, x, xt, n)


def stored(values: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """As a file keeps them, and what they are then."""
    if name == "f32":
        return values, values
    if name == "f16":
        halves = values.astype(np.float16)
        return halves.view(np.uint16), halves.astype(np.float32)
    bits = (values.view(np.uint32) >> 16).astype(np.uint16)
    return bits, (bits.astype(np.uint32) << 16).view(np.float32)


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize(("name", "function"), [("f32", run_f32), ("f16", run_f16), ("bf16", run_bf16)])
def test_float_dots_keep_their_order(name: str, function: object, n: int) -> None:
    rng = np.random.default_rng(n)
    raw, w = stored(rng.normal(size=n + 5).astype(np.float32), name)
    x = rng.normal(size=n + 3).astype(np.float32)
    got = function(raw, 5, x, 3, n)  # type: ignore[operator]
    assert np.float32(got) == dot(w[5:], x[3:])


def test_every_half_is_read_right() -> None:
    """All 65,536 of them, subnormals, infinities and NaN included."""
    raw = np.arange(65536, dtype=np.uint16)
    one = np.ones(1, np.float32)
    for function, values in [
        (run_f16, raw.view(np.float16).astype(np.float32)),
        (run_bf16, (raw.astype(np.uint32) << 16).view(np.float32)),
    ]:
        got = np.array([function(raw, i, one, 0, 1) for i in range(65536)], np.float32)
        np.testing.assert_array_equal(got, values)
