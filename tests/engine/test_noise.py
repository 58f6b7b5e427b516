"""The noise is a pure function, and Gumbel's."""

from __future__ import annotations

import math

import numpy as np

from gemmary.engine.noise import gumbel

MASK = (1 << 64) - 1
COUNT = 100_000
GOLDEN = [1.0759055502056503, -0.7757812836157577, -0.07139035233267799]  # seed 42, position 17


def mix(x: int) -> int:
    """SplitMix64's finaliser, in Python integers."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def expected(seed: int, position: int, token: int) -> float:
    golden = 0x9E3779B97F4A7C15
    key = mix((mix(seed & MASK) + position * golden) & MASK)
    bits = mix((key + token * golden) & MASK)
    return -math.log(-math.log(((bits >> 12) + 0.5) / 2**52))


def stream(seed: int, position: int, count: int = COUNT) -> np.ndarray:
    return gumbel(seed, position, np.arange(count, dtype=np.int32))


def test_values_are_the_stated_function_of_seed_position_and_id() -> None:
    for seed in (0, 1, -1, 2**63, 10**40, np.int64(7)):
        for position in (0, 1, 131_071):
            ids = np.array([0, 1, 262_143], np.int32)
            want = [expected(int(seed), position, int(i)) for i in ids]
            np.testing.assert_allclose(gumbel(seed, position, ids), want, rtol=1e-14)


def test_golden_values() -> None:
    """A seed of last year still gives last year's text."""
    np.testing.assert_allclose(gumbel(42, 17, np.array([0, 5, 262_143], np.int32)), GOLDEN, rtol=1e-13)


def test_an_id_has_its_noise_whatever_is_asked_beside_it() -> None:
    ids = np.array([900, 3, 77], np.int32)
    np.testing.assert_array_equal(gumbel(5, 9, ids), stream(5, 9, 1000)[ids])


def test_distribution() -> None:
    x = np.sort(stream(1, 0))
    assert abs(x.mean() - np.euler_gamma) < 4 * math.pi / math.sqrt(6 * COUNT)
    assert abs(x.var() - math.pi**2 / 6) < 0.05
    below = np.exp(-np.exp(-x))
    steps = np.arange(COUNT + 1) / COUNT
    distance = max(np.abs(below - steps[1:]).max(), np.abs(below - steps[:-1]).max())
    assert distance < 1.63 / math.sqrt(COUNT)  # Kolmogorov and Smirnov, 1 %


def test_distribution_over_positions_and_over_seeds() -> None:
    """Down a column of ids is not the only way to look at it: sampling looks along positions."""
    one = np.array([123], np.int32)
    for values in ([gumbel(1, p, one)[0] for p in range(4000)], [gumbel(s, 1, one)[0] for s in range(4000)]):
        x = np.sort(values)
        steps = np.arange(1, 4001) / 4000
        assert np.abs(np.exp(-np.exp(-x)) - steps).max() < 1.63 / math.sqrt(4000)


def test_streams_are_independent() -> None:
    """Neighbours in seed, position and id; seed and position do not stand in for one another."""
    base = stream(1, 5)
    others = [stream(2, 5), stream(1, 6), stream(5, 1), stream(2, 4), stream(0, 6), np.roll(base, 1)]
    for other in others:
        assert abs(np.corrcoef(base, other)[0, 1]) < 4 / math.sqrt(COUNT)
        assert abs(np.corrcoef(base > 1, other > 1)[0, 1]) < 4 / math.sqrt(COUNT)


def test_noise_is_finite_for_extreme_bits() -> None:
    """The largest and the smallest uniform number that 52 bits and a half can make."""
    for bits in (0, (1 << 52) - 1):
        uniform = (np.float64(bits) + 0.5) * 2.0**-52
        assert 0 < uniform < 1
        assert np.isfinite(-np.log(-np.log(uniform)))
