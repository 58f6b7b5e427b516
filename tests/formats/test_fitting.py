"""The search for a scale, beside one that tries very many."""

from __future__ import annotations

import numpy as np
import pytest

from gemmary.formats.fitting import clipped, fitted, largest


def loss(values: np.ndarray, scale: float, low: int) -> float:
    wide = values.astype(np.float64)
    return float(np.square(np.clip(np.rint(wide / scale), low, -low - 1) * scale - wide).sum())


@pytest.mark.parametrize(("low", "first", "step", "tries", "slack"), [
    (-8, -7.0, -1.0, 14, 1.02), (-32, -31.0, -0.1, 20, 1.15),
])  # fmt: skip
def test_near_the_best_scale(low: int, first: float, step: float, tries: int, slack: float) -> None:
    draw = np.random.default_rng(0)
    found = best = plain = 0.0
    for _ in range(20):
        values = draw.standard_normal(16 if low == -32 else 512).astype(np.float32)
        peak = float(np.abs(values).max())
        found += loss(values, float(fitted(values, low, first, step, tries)), low)
        best += min(loss(values, sign * peak / c, low) for c in np.linspace(5, 40, 2000) for sign in (1, -1))
        plain += loss(values, peak / (-low - 1), low)
    assert best <= found <= slack * best < plain


def test_of_nothing_comes_nothing() -> None:
    assert fitted(np.zeros(16, np.float32), -8, -7.0, -1.0, 14) == 0
    assert largest(np.zeros(3, np.float32)) == 0
    assert largest(np.array([1, -3, 3], np.float32)) == -3


def test_codes_are_clipped() -> None:
    codes = [clipped(np.float32(x), -8) for x in (-9.0, -7.5, -0.5, 0.5, 1.5, 7.4, 99.0, np.inf, np.nan)]
    assert codes == [-8, -8, 0, 0, 2, 7, 7, 0, 0]
