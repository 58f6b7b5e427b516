"""Several processes are one: the same losses, the same weights, the same checkpoints."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from gemmary.train.checkpoint import Checkpoint, load_latest
from gemmary.train.company import Company
from gemmary.train.optimizer import Learning
from tests.train.crew import crew, refused, resave, train, train_and_lose

ROOT = Path(__file__).parents[2]
# A bound that no gradient reaches: the norm is a sum over processes, whose last bit depends on their number.
FREE = {"clip": 1e9, "ema": 0.9, "learning": Learning(peak=1e-2, warmup=2, cooldown=0)}


def last(folder: Path) -> Checkpoint:
    found = load_latest(folder)
    assert found is not None
    return found


def losses(folder: Path) -> list[str]:
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [float(json.loads(line)["loss"]).hex() for line in lines]


def same(mine: Path, theirs: Path) -> None:
    """Weights, optimizer states and averages of the last checkpoints have the same bits."""
    a, b = last(mine), last(theirs)
    assert (a.step, set(a.tensors)) == (b.step, set(b.tensors))
    assert [name for name in a.tensors if not torch.equal(a.tensors[name], b.tensors[name])] == []


def close(mine: Path, theirs: Path, tolerance: float) -> None:
    a, b = last(mine), last(theirs)
    for name in a.tensors.keys() - {"random"}:
        torch.testing.assert_close(a.tensors[name], b.tensors[name], rtol=tolerance, atol=tolerance, msg=name)


def test_two_processes_are_one_bit_for_bit_and_take_turns_with_it(tmp_path: Path) -> None:
    """Two processes have a micro-batch each; one adds the same two. Then one goes on where two stopped."""
    alone, both = tmp_path / "alone", tmp_path / "both"
    train(Company(), alone, 4, FREE)
    assert crew(2, train, both, 4, FREE) == [0, 0]
    assert losses(both) == losses(alone)
    same(both, alone)
    assert sorted(path.name for path in (both / "step-00000004").glob("*.safetensors")) == [
        "tensors-00000-of-00002.safetensors",
        "tensors-00001-of-00002.safetensors",
    ]
    train(Company(), alone, 8, FREE)
    train(Company(), both, 6, FREE)
    assert crew(2, train, both, 8, FREE) == [0, 0]
    assert losses(both) == losses(alone)
    same(both, alone)


@pytest.mark.long
def test_a_lost_process_ends_the_run_with_a_sentence(tmp_path: Path) -> None:
    assert crew(2, train_and_lose, tmp_path, 12, 5) == [1, 9]
    said = (tmp_path / "error-0").read_text(encoding="utf-8")
    assert said.startswith("LostWorkerError: process 0 of 2 lost another one")
    assert "goes on from the last checkpoint" in said
    assert last(tmp_path).step == 4
    assert crew(2, train, tmp_path, 12, {}) == [0, 0]
    assert crew(2, train, tmp_path / "whole", 12, {}) == [0, 0]
    assert losses(tmp_path) == losses(tmp_path / "whole")
    same(tmp_path, tmp_path / "whole")


@pytest.mark.long
@pytest.mark.parametrize("shards", [4, 2, 1])
def test_four_processes_are_one_in_shards_and_in_replicas(tmp_path: Path, shards: int) -> None:
    """Four micro-batches are added in another order, and norms of shards too: equal but for rounding.

    AdamW alone: Muon multiplies in bfloat16, where a last bit of float32 can become one of bfloat16.
    """
    changes = {"parts": 4, "rows": 2, "learning": Learning(peak=1e-2, warmup=2, cooldown=0, muon=0.0)}
    train(Company(), tmp_path / "alone", 6, changes)
    assert crew(4, train, tmp_path / "four", 6, changes, shards) == [0] * 4
    close(tmp_path / "four", tmp_path / "alone", 2e-4)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_bfloat16_and_compiled_layers_learn_the_same(tmp_path: Path) -> None:
    """Norms are rounded with their layer here, which one process does not do: close, not equal."""
    changes = {"low": True, "fuse": True}
    train(Company(), tmp_path / "alone", 8, changes)
    assert crew(2, train, tmp_path / "two", 8, changes) == [0, 0]
    for mine, theirs in zip(losses(tmp_path / "two"), losses(tmp_path / "alone"), strict=True):
        assert float.fromhex(mine) == pytest.approx(float.fromhex(theirs), rel=0.02)


@pytest.mark.long
def test_a_checkpoint_goes_through_any_numbers_of_processes(tmp_path: Path) -> None:
    """2 -> 1 -> 2 -> 4 -> 3 -> 1, bit for bit; 3 processes do not even have equal shares."""
    folders = [tmp_path / str(number) for number in range(6)]
    assert crew(2, train, folders[0], 4, FREE) == [0, 0]
    for count, source, target in zip((1, 2, 4, 3, 1), folders, folders[1:], strict=False):
        assert crew(count, resave, source, target, 4, FREE) == [0] * count
        assert len(list((target / "step-00000004").glob("*.safetensors"))) == count
        same(target, folders[0])


@pytest.mark.long
@pytest.mark.parametrize("harm", ["flip", "drop"])
def test_a_damaged_part_is_found_and_the_checkpoint_before_is_used(tmp_path: Path, harm: str) -> None:
    whole, hurt = tmp_path / "whole", tmp_path / "hurt"
    assert crew(2, train, whole, 8, FREE) == [0, 0]
    shutil.copytree(whole, hurt)
    part = hurt / "step-00000008" / "tensors-00001-of-00002.safetensors"
    if harm == "drop":
        part.unlink()
    else:
        data = bytearray(part.read_bytes())
        data[-5] ^= 4
        part.write_bytes(data)
    assert crew(2, train, hurt, 8, FREE) == [0, 0]
    same(hurt, whole)


@pytest.mark.long
def test_what_cannot_be_cut_is_refused(tmp_path: Path) -> None:
    assert crew(3, refused, tmp_path, {"parts": 4}, None) == [0] * 3
    assert "make the plan's parts a multiple of 3" in (tmp_path / "0").read_text(encoding="utf-8")
    assert crew(3, refused, tmp_path, {"parts": 3}, 2) == [0] * 3
    assert "choose a number of shards that divides 3" in (tmp_path / "2").read_text(encoding="utf-8")
    assert crew(2, refused, tmp_path, {"background": True}, None) == [0] * 2
    assert "set the plan's background to false" in (tmp_path / "1").read_text(encoding="utf-8")


@pytest.mark.long
@pytest.mark.timeout(600)
def test_torchrun_starts_it_and_a_killed_process_can_be_started_again(tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        "-m", "tests.train.crew", str(tmp_path / "run"),
    ]  # fmt: skip
    first = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    log = tmp_path / "run" / "log.jsonl"
    while first.poll() is None and not (log.exists() and log.read_text().count("\n") >= 6):
        time.sleep(0.05)
    victim = int((tmp_path / "run" / "pid-1").read_text())
    os.kill(victim, signal.SIGKILL)
    assert first.communicate()[1] and first.returncode
    assert last(tmp_path / "run").step < 200
    (tmp_path / "run" / "short").touch()
    assert subprocess.run(command, cwd=ROOT, capture_output=True).returncode == 0
    assert last(tmp_path / "run").step >= 8
