"""Every row is seen once an epoch, in an order that depends on seed and epoch only."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from gemmary.train.batches import Batches, order
from gemmary.train.packing import Rows
from tests.train import toys


def numbered(count: int) -> Rows:
    """Rows that carry their number."""
    ids = np.arange(count, dtype=np.int32)[:, None].repeat(4, 1)
    return Rows(ids, np.zeros_like(ids), np.zeros_like(ids), np.ones(ids.shape, np.float32))


def seen(batches: Batches, steps: range) -> list[int]:
    return [int(n) for step in steps for part in batches.step(step) for n in part.ids[:, 0]]


def test_an_epoch_sees_every_row_once_even_where_batches_do_not_divide_it() -> None:
    batches = Batches(numbered(10), rows=2, parts=2, seed=0)
    rows = seen(batches, range(5))
    assert sorted(rows[:10]) == sorted(rows[10:]) == list(range(10))
    assert rows[:10] != rows[10:]


def test_a_step_does_not_depend_on_the_steps_before() -> None:
    fresh, used = (Batches(numbered(7), rows=3, parts=1, seed=4) for _ in range(2))
    seen(used, range(6))
    assert seen(fresh, range(6, 9)) == seen(used, range(6, 9))


def test_seeds_and_epochs_have_orders_of_their_own() -> None:
    orders = {tuple(order(8, epoch, seed)) for epoch in range(3) for seed in range(3)}
    assert len(orders) == 9
    first = Counter(int(order(8, epoch, 0)[0]) for epoch in range(400))
    assert set(first) == set(range(8)) and max(first.values()) < 90


def test_the_digest_knows_other_data() -> None:
    digests = {Batches(rows, 2, 1, 0).digest for rows in (toys.rows(), toys.rows(seed=1), toys.rows())}
    assert len(digests) == 2


def test_no_data_is_refused() -> None:
    with pytest.raises(ValueError, match="no data"):
        Batches(numbered(0), 2, 1, 0)
