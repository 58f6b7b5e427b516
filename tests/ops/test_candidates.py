"""The k best ids of a row, against a plain sort."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemmary.ops.candidates import candidates
from gemmary.ops.contract import TopK

LSE = np.zeros(1, np.float32)


def wanted_too(want: TopK) -> list[int]:
    return [] if want.also is None else want.also.tolist()


def answer(row: list[float], want: TopK) -> list[tuple[int, float]]:
    """Ids and logits of one row, without those that are not allowed."""
    found = candidates(np.array([row], np.float32), LSE, want)
    assert found.ids.dtype == np.int32
    assert found.ids.shape == found.logits.shape == (1, min(want.k, len(row)) + len(wanted_too(want)))
    pairs = zip(found.ids[0].tolist(), found.logits[0].tolist(), strict=True)
    return [(i, x) for i, x in pairs if x > -np.inf]


def expected(row: list[float], want: TopK) -> list[tuple[int, float]]:
    allowed = [i for i in range(len(row)) if want.allowed is None or want.allowed[i]]
    best = sorted(allowed, key=lambda i: (-row[i], i))[: want.k]
    chosen = {*best, *(i for i in wanted_too(want) if i in allowed)}
    return [(i, row[i]) for i in sorted(chosen, key=lambda i: (-row[i], i))]


rows = st.lists(st.sampled_from([-2.5, -1.0, 0.0, 0.5, 3.0]), min_size=1, max_size=12)  # many ties


@settings(max_examples=300, deadline=None)
@given(row=rows, k=st.integers(1, 15), data=st.data())
def test_as_a_plain_sort(row: list[float], k: int, data: st.DataObject) -> None:
    n = len(row)
    mask = data.draw(st.none() | st.lists(st.booleans(), min_size=n, max_size=n))
    also = data.draw(st.none() | st.lists(st.integers(0, n - 1), unique=True, max_size=n))
    allowed = None if mask is None else np.array(mask)
    want = TopK(k, allowed, None if also is None else np.array(also, np.int32))
    assert answer(row, want) == expected(row, want)


def test_ties_at_the_border_take_the_smallest_ids() -> None:
    assert answer([1, 2, 2, 2, 2, 0], TopK(2)) == [(1, 2), (2, 2)]


def test_what_is_not_allowed_is_never_among_the_best() -> None:
    allowed = np.array([False, True, False, True])
    assert answer([9, 1, 8, 0], TopK(3, allowed)) == [(1, 1), (3, 0)]


def test_nothing_allowed() -> None:
    assert answer([9, 1, 8], TopK(2, np.zeros(3, bool))) == []


def test_columns_left_over_are_empty() -> None:
    """`also` repeats one of the best: its column stays, with logit -inf."""
    found = candidates(np.array([[3, 1, 2]], np.float32), LSE, TopK(2, also=np.array([0, 1], np.int32)))
    assert found.ids[0, :3].tolist() == [0, 2, 1]
    assert found.logits[0].tolist() == [3, 2, 1, -np.inf]


def test_also_ids_have_to_be_allowed() -> None:
    assert answer([3, 1, 2], TopK(1, np.array([True, False, True]), np.array([1], np.int32))) == [(0, 3)]


def test_rows_are_independent() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(5, 40)).astype(np.float32)
    together = candidates(logits, np.arange(5, dtype=np.float32), TopK(7))
    for r in range(5):
        alone = candidates(logits[r : r + 1], LSE, TopK(7))
        np.testing.assert_array_equal(together.ids[r], alone.ids[0])
        np.testing.assert_array_equal(together.logits[r], alone.logits[0])
    assert together.lse.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("k", [1, 5, 512])
def test_large_rows(k: int) -> None:
    row = np.random.default_rng(1).normal(size=4000).astype(np.float32).round(1)
    want = TopK(k)
    assert answer(row.tolist(), want) == expected(row.tolist(), want)
