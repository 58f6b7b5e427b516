"""The table of training speed: both sides train the same; what is counted is right. Speed is not tested."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gemmary.config import NANO
from gemmary.ops.flex import block_mask
from gemmary.ops.intervals import intervals
from tests.train import toys

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Modules of bench/ by name, as its scripts see them."""
    monkeypatch.syspath_prepend(BENCH / "workers")
    monkeypatch.syspath_prepend(BENCH)
    return importlib.import_module


def test_lengths_are_those_of_the_texts(bench: Any) -> None:
    packed = bench("packed")
    rows = packed.packed(NANO, 64, 12)
    assert len(rows) >= 12 and sum(packed.lengths(rows)) == rows.tokens
    assert sum(length - 1 for length in packed.lengths(rows)) == (rows.weights > 0).sum()


@pytest.mark.long
def test_masks_of_the_peer_are_ours(bench: Any) -> None:
    theirs = bench("transformers_training")
    rows = toys.rows(24)
    step, _, _ = rows.step()
    row = rows.ids.shape[1]
    dense = theirs.masks(rows, 8, "sdpa", "cpu")
    flex = theirs.masks(rows, 8, "flex_attention", "cpu")
    for name, window in (("full_attention", None), ("sliding_attention", 8)):
        mine = block_mask(intervals(step, row, window), "cpu").mask_mod
        at = torch.arange(row)
        b, q, k = torch.arange(len(rows))[:, None, None], at[:, None], at
        assert torch.equal(dense[name][:, 0], mine(b, None, q, k))
        assert torch.equal(flex[name].mask_mod(b, None, q, k), mine(b, None, q, k))


@pytest.mark.long
def test_both_sides_begin_with_the_same_loss_and_learn(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    table = bench("training")
    monkeypatch.setenv("PYTHONPATH", str(BENCH.parent))
    job = bench("packed").Job("nano", row=64, rows=1, parts=2, device="cpu", threads=1)
    eager = {table.OURS, "transformers, SDPA"}
    some = {name: side for name, side in table.sides(job).items() if name in eager}
    monkeypatch.setattr(table, "sides", lambda job: some)
    found, about = table.in_turns(job, turns=2, steps=2)
    rows = table.table(job, found, 2)
    assert set(about) == {row["side"] for row in rows} == eager
    ours, theirs = (np.array(found[name][-1]["losses"]) for name in (table.OURS, "transformers, SDPA"))
    assert len(ours) == len(theirs) == 6  # two to warm up, two a turn
    np.testing.assert_allclose(ours, theirs, rtol=0.01)
    assert ours[0] == pytest.approx(np.log(NANO.vocab) + 0.5, rel=0.05)
    assert all(row["tokens_per_second"] > 0 and row["peak_bytes"] > 1e8 for row in rows)
