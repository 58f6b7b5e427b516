"""Several processes are one: the same losses, the same weights, the same checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from gemmary.train.checkpoint import Checkpoint, load_latest
from gemmary.train.company import Company
from gemmary.train.optimizer import Learning
from tests.train.crew import crew, train, train_and_lose

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


def test_a_lost_process_ends_the_run_with_a_sentence(tmp_path: Path) -> None:
    assert crew(2, train_and_lose, tmp_path, 12, 5) == [1, 9]
    said = (tmp_path / "error-0").read_text(encoding="utf-8")
    assert said.startswith("LostWorkerError: process 0 of 2 lost another one")
    assert "goes on from the last checkpoint" in said
    assert last(tmp_path).step == 4
