"""Counted random numbers: the same for a token wherever it is, and uniform."""

from __future__ import annotations

import numpy as np
import torch

from gemmary.train.counter import uniform

MASK = (1 << 64) - 1


def mixed(x: int) -> int:
    """SplitMix64's finaliser in whole numbers."""
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & MASK
    return x ^ (x >> 31)


def one(seed: int, token: int, draw: int) -> float:
    step = 0x9E3779B97F4A7C15
    key = mixed(mixed(seed & MASK) + token * step & MASK)
    return ((mixed(key + draw * step & MASK) >> 12) + 0.5) * 2.0**-52


def test_numbers_are_those_of_whole_number_arithmetic() -> None:
    tokens = [0, 1, 77, 2**40]
    for seed in (0, 5, -3, 2**63 + 11):
        wanted = [[one(seed, token, draw) for draw in range(5)] for token in tokens]
        assert uniform(seed, torch.tensor(tokens), 5).tolist() == wanted


def test_a_token_has_its_numbers_in_any_company() -> None:
    whole = uniform(3, torch.arange(10), 20)
    assert torch.equal(uniform(3, torch.tensor([7, 2]), 20), whole[[7, 2]])
    assert torch.equal(uniform(3, torch.arange(10), 8), whole[:, :8])
    assert not torch.equal(uniform(4, torch.arange(10), 20), whole)


def test_numbers_are_uniform_and_neighbours_have_nothing_in_common() -> None:
    u = uniform(1, torch.arange(400), 400).numpy()
    assert u.min() > 0 and u.max() < 1
    counts = np.histogram(u, 100, (0, 1))[0]
    chi = ((counts - 1600) ** 2 / 1600).sum()
    assert 50 < chi < 160  # 99 degrees of freedom: outside with a chance of 1e-4
    for a, b in ((u[1:], u[:-1]), (u[:, 1:], u[:, :-1])):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 4 / 400
