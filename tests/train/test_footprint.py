"""The footprint is what torch allocates; the report's own plans fit on the report's own chips."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from gemmary.config import NANO, SIZES
from gemmary.train.chips import read_chips
from gemmary.train.company import Company
from gemmary.train.footprint import best, footprint
from gemmary.train.split import Split, Work
from gemmary.train.step_memory import memory
from tests.train.allocated import nano, peak
from tests.train.crew import crew

# Gemma 3 report, table 2: size, chips, replicas, shards of data, of sequences
TABLE_2 = [
    ("1b", "512xTPUv5e", Split(2, 16, 16)),
    ("4b", "2048xTPUv5e", Split(8, 16, 16)),
    ("12b", "6144xTPUv4", Split(24, 16, 16)),
    ("27b", "6144xTPUv5p", Split(32, 24, 8)),
]
USUAL = Work(256, parts=2, recompute=False, dense=True)


def check(work: Work, folder: Path, tolerance: float) -> None:
    counted, found = memory(NANO, Split(), work).total, peak(lambda: nano(work, folder))
    print(f"{work}: counted {counted / 1e6:.1f} MB, allocated {found / 1e6:.1f} MB")
    assert counted == pytest.approx(found, rel=tolerance)


def test_memory_is_that_of_a_real_run(tmp_path: Path) -> None:
    check(USUAL, tmp_path, 0.03)


@pytest.mark.long
@pytest.mark.parametrize(
    "work",
    [
        Work(256, rows=4, recompute=False, dense=True),
        Work(256, rows=4, parts=2, dense=True, ema=True),
        Work(256, rows=4, parts=2, low=False, recompute=False, muon=False, dense=True),
        Work(512, rows=2, low=False, dense=True),
    ],
)
def test_memory_is_that_of_other_real_runs(tmp_path: Path, work: Work) -> None:
    check(work, tmp_path, 0.1)


def measure(company: Company, folder: Path, work: Work) -> None:
    found = peak(lambda: nano(work, folder / "run", company))
    (folder / f"{company.rank}.json").write_text(json.dumps(found))


@pytest.mark.long
@pytest.mark.parametrize("low", [False, True])
def test_memory_of_a_shard_is_that_of_a_real_run(tmp_path: Path, low: bool) -> None:
    """Of the two processes the one with less: where the machine is busy, gloo's threads let go late."""
    work = Work(256, rows=2, low=low, dense=True)
    assert crew(2, measure, tmp_path, work) == [0, 0]
    found = min(json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert memory(NANO, Split(shards=2), work).total == pytest.approx(found, rel=0.1)


@pytest.mark.parametrize("size, chips, split", TABLE_2)
def test_the_plans_of_the_report_fit_and_are_bound_by_compute(size: str, chips: str, split: Split) -> None:
    count, chip = read_chips(chips)
    assert split.chips == count
    found = footprint(SIZES[size], chip, split, Work(32_768, muon=False))
    assert found.spare > 0
    assert found.time.compute > found.time.shards + found.time.sequence


def test_a_chip_alone_does_not_hold_27b_and_64_do() -> None:
    config, (count, chip) = SIZES["27b"], read_chips("64xH100")
    assert best(config, chip, 1, Work(8192), 1 << 21)[0].spare < 0
    found = best(config, chip, count, Work(8192), 1 << 21)
    assert found[0].spare > 0
    assert found[0].work.tokens(found[0].split) == 1 << 21
    assert all(a.speed >= b.speed for a, b in pairwise(found) if b.spare > 0)


def test_weights_and_states_are_cut_into_as_many_pieces_as_there_are_chips_in_a_replica() -> None:
    config = SIZES["1b"]
    one, many = (memory(config, Split(shards=shards), Work(4096, parts=2)) for shards in (1, 8))
    assert one.weights == 4 * config.parameters == 8 * many.weights
    assert (one.optimizer, one.gradients) == (8 * many.optimizer, 8 * many.gradients)
