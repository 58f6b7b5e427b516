"""UniMax against the paper's algorithm, by examples worked out by hand and by what must always hold."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmary.train.data.unimax import unimax


@pytest.mark.parametrize(
    ("sizes", "budget", "epochs", "shares"),
    [
        # 90 / 3 = 30 > 2 x 10: all of a twice; then (90 - 20) / 2 = 35 each, below 2 x 20 and 2 x 1000.
        ({"c": 1000, "a": 10, "b": 20}, 90, 2, {"a": 20, "b": 35, "c": 35}),
        # 300 / 3 = 100 > 20; 280 / 2 = 140 > 40; 240 is left for c.
        ({"a": 10, "b": 20, "c": 1000}, 300, 2, {"a": 20, "b": 40, "c": 240}),
        # More than everything, thrice: the cap ends it.
        ({"a": 10, "b": 20}, 1000, 3, {"a": 30, "b": 60}),
        # No source is too small: even.
        ({"a": 500, "b": 700, "c": 600}, 300, 1, {"a": 100, "b": 100, "c": 100}),
        # Less than one epoch.
        ({"a": 10, "b": 100}, 40, 0.5, {"a": 5, "b": 35}),
        ({"a": 0, "b": 10}, 8, 1, {"a": 0, "b": 8}),
        ({}, 8, 1, {}),
    ],
)
def test_by_hand(sizes: dict[str, float], budget: float, epochs: float, shares: dict[str, float]) -> None:
    assert unimax(sizes, budget, epochs) == pytest.approx(shares)
    assert list(unimax(sizes, budget, epochs)) == list(sizes)


@given(
    st.lists(st.integers(0, 10**6), min_size=1, max_size=20),
    st.integers(0, 10**8),
    st.sampled_from([0.5, 1, 4, 10]),
)
def test_invariants(sizes: list[int], budget: int, epochs: float) -> None:
    named = {str(n): float(size) for n, size in enumerate(sizes)}
    shares = unimax(named, budget, epochs)
    assert sum(shares.values()) == pytest.approx(min(budget, epochs * sum(sizes)))
    assert all(shares[name] <= epochs * size * (1 + 1e-12) for name, size in named.items())
    ascending = sorted(named, key=named.__getitem__)
    for smaller, larger in pairwise(ascending):
        assert shares[smaller] <= shares[larger] + 1e-6


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        unimax({"a": -1}, 10, 1)
