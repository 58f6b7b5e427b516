"""Activations rounded to int8: the error is half a step, sums are exact, rows do not know each other."""

from __future__ import annotations

import numpy as np
import pytest

from gemmary.ops.numba.activation import BLOCK, SUM, quantize


def made(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(rows, columns)) * 10.0 ** rng.integers(-6, 6, (rows, 1))).astype(np.float32)


def restored(x: np.ndarray) -> np.ndarray:
    codes = quantize(x)
    return codes.codes * np.repeat(codes.scales, BLOCK, -1).astype(np.float64)


@pytest.mark.parametrize(("rows", "columns"), [(1, 32), (1, 96), (3, 1152), (7, 224)])
def test_half_a_step(rows: int, columns: int) -> None:
    x = made(rows, columns)
    codes = quantize(x)
    half = np.repeat(codes.scales, BLOCK, -1) * 0.5
    assert (np.abs(restored(x) - x) <= half * (1 + 1e-5)).all()
    largest = np.abs(codes.codes.reshape(rows, -1, BLOCK).astype(int)).max(-1)
    assert (largest == 127).all()
    peaks = np.abs(x).reshape(rows, -1, BLOCK).max(-1)
    np.testing.assert_array_equal(codes.scales, peaks / np.float32(127))


def test_ties_go_to_even() -> None:
    x = np.zeros((1, 32), np.float32)
    x[0, :8] = [127, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.5]
    np.testing.assert_array_equal(quantize(x).codes[0, :8], [127, 0, 2, 2, 0, -2, -2, 126])


def test_sums_are_exact() -> None:
    codes = quantize(made(5, 320))
    want = codes.codes.reshape(5, -1, SUM).astype(np.int32).sum(-1)
    np.testing.assert_array_equal(codes.sums, want)


def test_a_row_depends_on_itself_only() -> None:
    x = made(6, 256)
    together = quantize(x)
    for t in range(6):
        alone = quantize(x[t : t + 1])
        np.testing.assert_array_equal(alone.codes[0], together.codes[t])
        np.testing.assert_array_equal(alone.scales[0], together.scales[t])
        np.testing.assert_array_equal(alone.sums[0], together.sums[t])


def test_nothing_comes_from_nothing() -> None:
    codes = quantize(np.zeros((2, 64), np.float32))
    assert not codes.codes.any() and not codes.scales.any() and not codes.sums.any()


@pytest.mark.parametrize("size", [1e-45, 1e-40, 1e-37, 1e37, 3e38])
def test_extreme_sizes(size: float) -> None:
    x = (made(1, 32) / np.abs(made(1, 32)).max() * size).astype(np.float32)
    assert (np.abs(restored(x) - x) <= max(size / 200, 1e-36)).all()
