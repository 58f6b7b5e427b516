"""RMSNorm and the norm before a residual addition, against float64."""

from __future__ import annotations

import numpy as np
import pytest

from gemmary.ops.numba.activation import room
from gemmary.ops.numba.norm import normalise
from tests.ops.numba.played import EPS, added, normalised, played, rounded

SHAPES = [(1, 1), (3, 7), (2, 96), (5, 1152)]


def inputs(rows: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(width)
    x = (rng.normal(size=(rows, width)) * 10.0 ** rng.integers(-3, 4, (rows, 1))).astype(np.float32)
    return x, rng.normal(1, 1, width).astype(np.float32)


def truth(x: np.ndarray, gain: np.ndarray) -> np.ndarray:
    wide = x.astype(np.float64)
    return wide / np.sqrt((wide**2).mean(-1, keepdims=True) + EPS) * gain


@pytest.mark.parametrize(("rows", "width"), SHAPES)
def test_normalise(rows: int, width: int) -> None:
    x, gain = inputs(rows, width)
    np.testing.assert_allclose(normalised(x, gain), truth(x, gain), rtol=1e-6, atol=1e-12)


def test_rows_may_be_chosen() -> None:
    x, gain = inputs(6, 96)
    rows = np.array([5, 0, 5], np.int32)
    np.testing.assert_array_equal(normalised(x, gain, rows), normalised(x, gain)[rows])


@pytest.mark.parametrize("tokens", [1, 3, 8, 13])
def test_codes_are_those_of_the_result(tokens: int) -> None:
    """The norm rounds what it writes, as `round_rows` does."""
    x, gain = inputs(tokens, 96)
    out, codes = np.empty_like(x), room(tokens, 96)
    played(
        normalise, tokens, x=x, rows=None, gain=gain, eps=EPS, out=out, codes=codes, tokens=tokens, columns=96
    )
    np.testing.assert_array_equal(codes, rounded(out))


@pytest.mark.parametrize(("rows", "width"), SHAPES)
def test_add_normalised(rows: int, width: int) -> None:
    y, gain = inputs(rows, width)
    x = inputs(rows, width + 1)[0][:, :width].copy()
    want = x + truth(y, gain)
    assert (np.abs(added(x, y, gain) - want) <= 1e-6 * (np.abs(x) + np.abs(want) + 1)).all()


def test_zeros_stay_zeros() -> None:
    assert not normalised(np.zeros((2, 32), np.float32), np.ones(32, np.float32)).any()


def test_nan_is_not_lost() -> None:
    x, gain = inputs(2, 96)
    x[1, 3] = np.nan
    for out in (normalised(x, gain), added(np.zeros_like(x), x, gain)):
        assert np.isfinite(out[0]).all()
        assert np.isnan(out[1]).all()
