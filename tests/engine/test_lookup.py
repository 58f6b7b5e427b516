"""The index against a search over the whole text."""

from __future__ import annotations

import time

import numpy as np
import pytest

from gemmary.engine.lookup import Lookup


def longest(ids: list[int], most: int = 24) -> tuple[int, int]:
    """Length and place behind the longest repetition of the end, found by trying everything."""
    best = (0, 0)
    for place in range(len(ids) - 2, -1, -1):
        length = 0
        while length < min(most, place + 1) and ids[place - length] == ids[-1 - length]:
            length += 1
        if length >= 2 and length > best[0]:
            best = (length, place + 1)
    return best


@pytest.mark.parametrize("seed", range(6))
def test_the_longest_repetition_is_found_while_the_text_grows(seed: int) -> None:
    """Pieces of a few words, so that texts repeat; few pairs occur more often than the index compares."""
    rng = np.random.default_rng(seed)
    words = [[int(i) for i in rng.integers(0, 500, rng.integers(2, 12))] for _ in range(12)]
    ids: list[int] = []
    index, hits = Lookup(ids), 0
    for _ in range(60):
        ids += words[int(rng.integers(len(words)))][: int(rng.integers(1, 12))]
        length, place = index.find()
        expected = longest(ids)
        assert (length, place) == expected or (length == 24 == expected[0])
        hits += length > 0
        assert index.propose(4)[:1] == ([ids[place]] if length else [])
    assert hits > 10


def test_the_newest_of_equal_repetitions_counts() -> None:
    assert Lookup([1, 2, 7, 1, 2, 8, 1, 2]).propose(1) == [8]
    assert Lookup([5, 1, 2, 7, 1, 2, 8, 5, 1, 2]).propose(1) == [7]  # longer beats newer


def test_a_guess_goes_on_as_the_text_did() -> None:
    index = Lookup([1, 2, 3, 4, 5, 9, 1, 2])
    assert index.grade() == 2
    assert index.propose(3) == [3, 4, 5]
    assert Lookup([0, 1, 2, 3, 4, 5, 9, 0, 1, 2]).grade() == 3


def test_a_text_that_goes_round_is_guessed_to_go_on_so() -> None:
    assert Lookup([7, 7, 7, 7]).propose(5) == [7] * 5
    assert Lookup([4, 5, 6, 4, 5, 6, 4, 5]).propose(7) == [6, 4, 5, 6, 4, 5, 6]


@pytest.mark.parametrize("ids", [[], [3], [3, 3], [1, 2], [1, 2, 3, 1]])
def test_what_never_repeated_is_not_guessed(ids: list[int]) -> None:
    index = Lookup(ids)
    assert (index.find(), index.grade(), index.propose(3)) == ((0, 0), None, [])


def test_a_long_text_costs_no_more_a_token_than_a_short_one() -> None:
    """Also one token again and again, which has the most places to compare."""

    def seconds(length: int) -> float:
        ids = [7] * length
        index = Lookup(ids)
        index.find()
        started = time.perf_counter()
        for _ in range(300):
            ids.append(7)
            index.find()
        return time.perf_counter() - started

    assert min(seconds(60_000) for _ in range(4)) < 5 * min(seconds(300) for _ in range(4))
