"""exp and the gated GELU against float64; fused multiply-add against exact fractions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numba import njit

from gemmary.ops.numba import scalar
from tests.ops.numba.exact import fused


@njit
def exps(x: np.ndarray, out: np.ndarray) -> None:
    for i in range(len(x)):
        out[i] = scalar.exp(x[i])


@njit
def gelus(x: np.ndarray, out: np.ndarray) -> None:
    for i in range(len(x)):
        out[i] = scalar.gelu(x[i])


@njit
def fmas(a: np.ndarray, b: np.ndarray, c: np.ndarray, out: np.ndarray) -> None:
    for i in range(len(a)):
        out[i] = scalar.fma(a[i], b[i], c[i])


def applied(function: object, *arrays: np.ndarray) -> np.ndarray:
    out = np.empty(len(arrays[0]), np.float32)
    function(*arrays, out)  # type: ignore[operator]
    return out


def test_exp_within_two_ulp() -> None:
    near = np.float32(math.log(2) / 2) * np.arange(
        -240, 240, dtype=np.float32
    )  # where the reduction turns over
    x = np.concatenate([np.linspace(-87, 88, 200_001), near[np.abs(near) < 83], [0.0, -0.0, 1e-30]])
    x = x.astype(np.float32)
    truth = np.exp(x.astype(np.float64))
    ulp = np.spacing(truth.astype(np.float32)).astype(np.float64)
    assert (np.abs(applied(exps, x) - truth) / ulp).max() <= 2


def test_exp_never_leaves_the_normal_range() -> None:
    got = applied(exps, np.array([-np.inf, -1e30, -88, 88.5, 1e30, np.inf], np.float32))
    assert (got[:3] == got[0]).all() and 0 < got[0] < 2e-38
    assert (got[3:] == got[3]).all() and np.isfinite(got[3])


@pytest.mark.parametrize("function", [exps, gelus])
def test_nan_stays_nan(function: object) -> None:
    assert np.isnan(applied(function, np.full(3, np.nan, np.float32))).all()


def test_gelu_is_the_tanh_one() -> None:
    z = np.linspace(-12, 12, 100_001).astype(np.float32)
    wide = z.astype(np.float64)
    truth = 0.5 * wide * (1 + np.tanh(np.sqrt(2 / np.pi) * (wide + 0.044715 * wide**3)))
    assert (np.abs(applied(gelus, z) - truth) <= 2e-7 * np.maximum(1, np.abs(wide))).all()


def test_gelu_far_out() -> None:
    got = applied(gelus, np.array([-1e20, -1e4, 1e4, 1e20], np.float32))
    np.testing.assert_array_equal(got, np.array([0, 0, 1e4, 1e20], np.float32))


def test_fma_rounds_once() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=500).astype(np.float32) for _ in range(2))
    c = -(a * b) * rng.choice([1, 1 + 2e-7, 0.5, 1e-6], 500).astype(
        np.float32
    )  # cancellation shows the second rounding
    want = [fused(*numbers) for numbers in zip(a, b, c, strict=True)]
    np.testing.assert_array_equal(applied(fmas, a, b, c), np.array(want, np.float32))
    assert (np.float32(a * b + c) != np.array(want, np.float32)).mean() > 0.2
