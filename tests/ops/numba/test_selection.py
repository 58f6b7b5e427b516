"""The best of full logits by block maxima, against the plain sort; log sum exp, against float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numba import njit

from gemmary.ops.candidates import candidates
from gemmary.ops.contract import Candidates, TopK
from gemmary.ops.numba.logsum import SPAN, log
from gemmary.ops.numba.scalar import exp
from gemmary.ops.numba.selection import Selection
from gemmary.ops.numba.team import Team

ALONE, TOGETHER = Team(1), Team(2)
SIZES = (1, 5, 64, 65, 1000, 1024, 3000, 9000)


def rows_of(kind: str, columns: int) -> np.ndarray:
    """Three rows of logits."""
    rng = np.random.default_rng(columns)
    x = rng.normal(0, 3, (3, columns)).astype(np.float32)
    if kind == "tied":
        return x.round(0)
    if kind == "equal":
        return np.full_like(x, -1.5)
    if kind == "rising":
        return np.sort(x, -1)
    if kind == "zeros":
        return np.where(x > 0, np.float32(0), np.float32(-0.0))
    if kind == "minus infinity":
        return np.where(x < 1, np.float32(-np.inf), x)
    return x


def assert_same(found: Candidates, expected: Candidates) -> None:
    """Equal wherever a candidate is; what is left over is empty in both."""
    np.testing.assert_array_equal(found.logits, expected.logits)
    there = expected.logits > -np.inf
    np.testing.assert_array_equal(found.ids[there], expected.ids[there])
    assert found.ids.dtype == expected.ids.dtype and found.logits.dtype == expected.logits.dtype


def expected(logits: np.ndarray, want: TopK) -> Candidates:
    return candidates(logits, np.zeros(len(logits), np.float32), want)


@pytest.mark.parametrize("kind", ["normal", "tied", "equal", "rising", "zeros", "minus infinity"])
@pytest.mark.parametrize("columns", SIZES)
def test_as_the_plain_sort(kind: str, columns: int) -> None:
    logits, rng = rows_of(kind, columns), np.random.default_rng(1)
    selection = Selection(columns, 2, TOGETHER)  # fewer at a time than there are rows
    some = rng.random(columns) < 0.5
    few = np.zeros(columns, bool)
    few[rng.integers(0, columns, 3)] = True
    best = np.argsort(-logits[0], kind="stable")
    also = np.unique(np.concatenate([best[:2], best[-2:]])).astype(np.int32)  # inside and outside of the k
    for k in {1, 2, 20, 64, 500, columns}:
        for allowed in (None, some, few, np.zeros(columns, bool)):
            for extra in (None, also):
                want = TopK(k, allowed, extra, lse=False)
                assert_same(selection.candidates(logits, want), expected(logits, want))


@pytest.mark.parametrize("k", [1, 20, 3000])
def test_every_row_may_have_its_own_allowed(k: int) -> None:
    logits = rows_of("normal", 3000)
    allowed = np.random.default_rng(4).random(logits.shape) < np.array([[0.5], [0.01], [1.0]])
    selection = Selection(3000, 2, TOGETHER)
    found = selection.candidates(logits, TopK(k, allowed, lse=False))
    for row in range(3):
        alone = expected(logits[row : row + 1], TopK(k, allowed[row], lse=False))
        part = Candidates(found.ids[row : row + 1], found.logits[row : row + 1], found.lse[row : row + 1])
        assert_same(part, alone)
    assert_same(expected(logits, TopK(k, allowed, lse=False)), found)


@pytest.mark.parametrize("k", [1, 64, 500, 1024, 4096])
def test_the_size_of_gemma(k: int) -> None:
    logits = np.random.default_rng(0).normal(0, 3, (1, 262144)).astype(np.float32)
    logits[0, 1000:1100] = logits.max()  # many of the best in two blocks
    want = TopK(k, lse=False)
    assert_same(Selection(262144, 1, TOGETHER).candidates(logits, want), expected(logits, want))


@pytest.mark.parametrize("k", [1, 30, 3000])
@pytest.mark.parametrize("at", [0, 17, 1023, 1024, 2999])
def test_nan_is_noticed_wherever_it_is(k: int, at: int) -> None:
    logits = rows_of("normal", 3000)
    for nan in (np.nan, -np.nan):
        logits[1, at] = nan
        for allowed in (None, np.arange(3000) % 2 == 1 - at % 2):  # also where it is not allowed
            found = Selection(3000, 3, TOGETHER).candidates(logits, TopK(k, allowed))
            assert np.isnan(found.logits[1]).all() and np.isnan(found.lse[1])
            assert not np.isnan(found.logits[[0, 2]]).any() and np.isfinite(found.lse[[0, 2]]).all()


def test_infinity_is_noticed() -> None:
    logits = rows_of("normal", 3000)
    logits[0, 5], logits[1] = np.inf, -np.inf
    found = Selection(3000, 3, ALONE).candidates(logits, TopK(2))
    assert found.logits[0, 0] == np.inf
    assert np.isnan(found.lse[:2]).all() and np.isfinite(found.lse[2])


@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0, 1e6])
@pytest.mark.parametrize("columns", [1, 15, 100, 5000, 70000])
def test_log_sum_exp(columns: int, scale: float) -> None:
    logits = (np.random.default_rng(2).normal(size=(2, columns)) * scale).astype(np.float32)
    wide = logits.astype(np.float64)
    peak = wide.max(-1, keepdims=True)
    right = np.log(np.exp(wide - peak).sum(-1)) + peak[:, 0]
    found = Selection(columns, 2, TOGETHER).candidates(logits, TopK(1, np.zeros(columns, bool)))
    np.testing.assert_allclose(found.lse, right, rtol=2.0**-23, atol=4e-6)


def test_the_bits_of_log_sum_exp() -> None:
    """They follow from the order that `logsum` promises, so they are the same on any machine."""
    logits = np.random.default_rng(3).normal(0, 4, (1, 2 * SPAN + 100)).astype(np.float32)
    total, peaks, sums = 0.0, [], []
    for first in range(0, logits.size, SPAN):
        span = logits[0, first : first + SPAN]
        peaks.append(span.max())
        powers = exponentials(span - span.max())
        whole = len(span) // 16 * 16
        lanes = np.zeros(16, np.float32)
        for row in powers[:whole].reshape(-1, 16):
            lanes += row
        while len(lanes) > 1:
            lanes = lanes[: len(lanes) // 2] + lanes[len(lanes) // 2 :]
        for power in powers[whole:]:
            lanes += power
        sums.append(lanes[0])
    scales = exponentials(np.array(peaks) - max(peaks))
    for part, scale in zip(sums, scales, strict=True):
        total += float(part) * float(scale)
    right = np.float32(float(max(peaks)) + log(total))
    for team in (ALONE, TOGETHER):
        assert Selection(logits.size, 1, team).candidates(logits, TopK(1)).lse[0] == right
    batch = np.concatenate([logits[:, ::-1], logits, logits])
    assert Selection(logits.size, 3, TOGETHER).candidates(batch, TopK(1)).lse[1] == right


@njit
def exponentials(x: np.ndarray) -> np.ndarray:
    out = np.empty_like(x)
    for i in range(len(x)):
        out[i] = exp(x[i])
    return out


@pytest.mark.parametrize("x", [1.0, 1.0000001, 1.49, 1.51, 2.0, 3.0, 1000.5, 262144.0, 1e30])
def test_logarithm(x: float) -> None:
    assert log(x) == pytest.approx(math.log(x), rel=4e-16, abs=4e-16)


def test_targets() -> None:
    logits = rows_of("tied", 3000)
    found = Selection(3000, 2, TOGETHER).scored(logits, np.array([7, 0, 2999], np.int32))
    np.testing.assert_array_equal(found.logits, logits[[0, 1, 2], [7, 0, 2999]])
    np.testing.assert_array_equal(found.best, logits.argmax(-1))  # the lowest id among equals
    np.testing.assert_allclose(found.lse, np.log(np.exp(logits.astype(np.float64)).sum(-1)), rtol=1e-6)


def test_without_log_sum_exp_it_is_nan() -> None:
    assert np.isnan(Selection(100, 1, ALONE).candidates(rows_of("normal", 100)[:1], TopK(1, lse=False)).lse)
