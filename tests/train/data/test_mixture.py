"""Within a source: expected counts follow the weights, add up, and become whole documents."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmary.train.data.density import RANGE, SIZE, density_weights, embedding
from gemmary.train.data.mixture import copies, repeats
from gemmary.train.data.words import word_hashes

LISTS = st.lists(st.tuples(st.integers(1, 1000), st.floats(0.01, 100)), min_size=1, max_size=40)


def by_bisection(sizes: np.ndarray, weights: np.ndarray, wanted: float, most: float) -> np.ndarray:
    """The same by trying factors."""
    low, high = 0.0, most / weights.min()
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (
            (low, middle) if (sizes * np.minimum(most, middle * weights)).sum() > wanted else (middle, high)
        )
    return np.minimum(most, high * weights)


@given(LISTS, st.floats(0.001, 1.5), st.sampled_from([0.5, 1.0, 4.0]))
def test_repeats_equal_a_bisection(documents: list[tuple[int, float]], share: float, most: float) -> None:
    sizes, weights = (np.array(column, float) for column in zip(*documents, strict=True))
    wanted = share * most * sizes.sum()
    found = repeats(sizes, weights, wanted, most)
    assert (found <= most * (1 + 1e-12)).all()
    assert (sizes * found).sum() == pytest.approx(min(wanted, most * sizes.sum()))
    np.testing.assert_allclose(found, by_bisection(sizes, weights, wanted, most), rtol=1e-6)


@given(st.lists(st.floats(0, 5), min_size=1, max_size=50), st.integers(0, 99))
def test_copies_are_whole_and_close(expected: list[float], seed: int) -> None:
    found = copies(np.array(expected), np.random.default_rng(seed))
    assert (np.abs(found - expected) < 1 + 1e-6).all()
    assert abs(found.sum() - sum(expected)) < 1 + 1e-6


def test_whole_expectations_are_kept_exactly() -> None:
    assert copies(np.full(1000, 3.0), np.random.default_rng(0)).tolist() == [3] * 1000


def test_copies_have_their_mean() -> None:
    drawn = [copies(np.array([0.3, 1.6, 0.1]), np.random.default_rng(seed)) for seed in range(3000)]
    np.testing.assert_allclose(np.mean(drawn, 0), [0.3, 1.6, 0.1], atol=0.04)


def document(dice: np.random.Generator, first: int, many: int = 60) -> np.ndarray:
    """The embedding of words with numbers from `first` on."""
    return embedding(word_hashes([f"w{first + n}" for n in dice.integers(0, 80, many)]))


def test_the_crowded_step_back() -> None:
    """300 documents about one thing, 30 about other things each: the latter count more, within the range."""
    dice = np.random.default_rng(0)
    crowd = [document(dice, 0) for _ in range(300)]
    lonely = [document(dice, 1000 * n) for n in range(1, 31)]
    weights = density_weights(np.array(crowd + lonely), np.arange(330), 0.5, seed=1)
    assert weights.mean() == pytest.approx(1)
    assert np.median(weights[300:]) > 1.3 * np.median(weights[:300])
    assert weights.max() / weights.min() <= RANGE**2 * (1 + 1e-9)


def test_without_power_all_weigh_the_same() -> None:
    points = np.random.default_rng(0).standard_normal((9, SIZE)).astype(np.float32)
    assert density_weights(points, np.arange(9), 0.0, seed=0).tolist() == [1.0] * 9
    assert density_weights(points, np.arange(0), 0.5, seed=0).tolist() == []
