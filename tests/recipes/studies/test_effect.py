"""When a difference counts: numbers worked by hand, and that equals rarely pass."""

from __future__ import annotations

import numpy as np
import pytest

from gemmary.recipes.studies.effect import effect, spread


def test_a_difference_by_hand() -> None:
    # differences 0.1, 0.2, 0.3: mean 0.2, standard error 0.1 / sqrt(3), t(2) = 4.303
    found = effect([1.1, 2.2, 3.3], [1.0, 2.0, 3.0])
    assert found.mean == pytest.approx(0.2)
    assert found.margin == pytest.approx(4.303 * 0.1 / 3**0.5)
    assert not found.seen
    assert found.said(2) == "no effect seen (+0.20 ± 0.25)"


def test_seeds_are_compared_in_pairs() -> None:
    """A spread that both variants share does not hide a difference that every seed has."""
    found = effect([1.10, 5.11, 9.10], [1.0, 5.0, 9.0])
    assert found.seen
    assert found.said(3, " nats") == "+0.103 ± 0.014 nats"


@pytest.mark.parametrize("seeds", [2, 3, 5, 13])
def test_equals_pass_one_time_in_twenty(seeds: int) -> None:
    dice = np.random.default_rng(seeds)
    draws = dice.normal(size=(2000, 2, seeds))
    share = np.mean([effect(list(a), list(b)).seen for a, b in draws])
    assert 0.035 < share < 0.065


def test_what_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="2 to 13 seeds, not 1"):
        effect([1.0], [1.0])
    with pytest.raises(ValueError, match="shorter"):
        effect([1.0, 2.0], [1.0])
    assert spread([2.0]).deviation == 0
