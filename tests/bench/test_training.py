"""The table of training speed: both sides train the same; what is counted is right. Speed is not tested."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gemmary.config import NANO, Config
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


def test_operations_are_six_a_parameter_and_twelve_a_column_of_a_seen_key(bench: Any) -> None:
    packed = bench("packed")
    config = Config("toy", 50, 8, 2, 2, 1, 4, 16, window=3, context=64, query_scalar=4, global_layers=(1,))
    rows = packed.pack_rows([packed.Document([1] * 5, [1.0] * 5)], 8)
    local, everything = (1 + 2 + 3 + 3 + 3) / 5, (1 + 2 + 3 + 4 + 5) / 5
    want = 6 * config.parameters + 12 * 8 * (local + everything)
    assert packed.operations(config, rows) == pytest.approx(want)


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
    count = min(len(ours), len(theirs))  # of ours, an update to warm up may be a compilation only
    assert count >= 5
    np.testing.assert_allclose(ours[:count], theirs[:count], rtol=0.01)
    assert ours[0] == pytest.approx(np.log(NANO.vocab) + 0.5, rel=0.05)
    assert all(row["tokens_per_second"] > 0 and row["peak_bytes"] > 1e8 for row in rows)
