"""RMSNorm and the norm before a residual addition, against float64."""

from __future__ import annotations

import numpy as np
import pytest

from gemmary.ops.numba.norm import add_normalised, normalise


def inputs(rows: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(width)
    x = (rng.normal(size=(rows, width)) * 10.0 ** rng.integers(-3, 4, (rows, 1))).astype(np.float32)
    return x, rng.normal(1, 1, width).astype(np.float32)


def truth(x: np.ndarray, gain: np.ndarray, eps: float) -> np.ndarray:
    wide = x.astype(np.float64)
    return wide / np.sqrt((wide**2).mean(-1, keepdims=True) + eps) * gain


@pytest.mark.parametrize(("rows", "width"), [(1, 1), (3, 7), (2, 96), (5, 1152)])
def test_normalise(rows: int, width: int) -> None:
    x, gain = inputs(rows, width)
    out = np.empty_like(x)
    normalise(x, gain, np.float32(1e-6), out)
    np.testing.assert_allclose(out, truth(x, gain, 1e-6), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(("rows", "width"), [(1, 1), (3, 7), (2, 96), (5, 1152)])
def test_add_normalised(rows: int, width: int) -> None:
    y, gain = inputs(rows, width)
    x = inputs(rows, width + 1)[0][:, :width].copy()
    out = np.empty_like(x)
    add_normalised(x, y, gain, np.float32(1e-6), out)
    want = x + truth(y, gain, 1e-6)
    assert (np.abs(out - want) <= 1e-6 * (np.abs(x) + np.abs(want) + 1)).all()


def test_zeros_stay_zeros() -> None:
    x = np.zeros((2, 32), np.float32)
    out = np.ones_like(x)
    normalise(x, np.ones(32, np.float32), np.float32(1e-6), out)
    assert not out.any()
