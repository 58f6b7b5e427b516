"""Muon is torch's, bit for bit; in shards it is itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from gemmary.train.company import Company
from gemmary.train.muon import Muon
from tests.train.crew import crew

SHAPES = [(6, 4), (5, 9), (6, 4), (2, 3), (6, 4), (1, 7), (8, 8)]


def matrices() -> list[torch.nn.Parameter]:
    dice = torch.Generator().manual_seed(3)
    return [torch.nn.Parameter(torch.randn(shape, generator=dice)) for shape in SHAPES]


def gradients(step: int) -> list[torch.Tensor]:
    dice = torch.Generator().manual_seed(step)
    return [torch.randn(shape, generator=dice) for shape in SHAPES]


def updated(optimizer: type[torch.optim.Optimizer], **options: object) -> list[torch.Tensor]:
    """The matrices after three steps."""
    held = matrices()
    made = optimizer(held, lr=0.03, weight_decay=0.1, **options)
    for step in range(3):
        for parameter, grad in zip(held, gradients(step), strict=True):
            parameter.grad = grad
        made.step()
    return [parameter.detach() for parameter in held]


def test_it_is_the_muon_of_torch() -> None:
    theirs = updated(torch.optim.Muon, adjust_lr_fn="match_rms_adamw")
    assert [torch.equal(a, b) for a, b in zip(updated(Muon), theirs, strict=True)] == [True] * len(SHAPES)


def cut(company: Company, folder: Path) -> None:
    """As `updated`, each matrix by rows over all processes; some processes have no row of some."""
    mesh = init_device_mesh("cpu", (company.size,))
    held = [torch.nn.Parameter(distribute_tensor(p.detach(), mesh, [Shard(0)])) for p in matrices()]
    made = Muon(held, lr=0.03, weight_decay=0.1)
    for step in range(3):
        for parameter, grad in zip(held, gradients(step), strict=True):
            parameter.grad = distribute_tensor(grad, mesh, [Shard(0)])
        made.step()
    whole = [p.detach().full_tensor() for p in held if isinstance(p.detach(), DTensor)]
    (folder / f"{company.rank}.json").write_text(json.dumps([p.tolist() for p in whole]))


@pytest.mark.long
def test_three_processes_are_one(tmp_path: Path) -> None:
    assert crew(3, cut, tmp_path) == [0, 0, 0]
    for rank in range(3):
        found = [torch.tensor(rows) for rows in json.loads((tmp_path / f"{rank}.json").read_text())]
        assert [torch.equal(a, b) for a, b in zip(found, updated(Muon), strict=True)] == [True] * len(SHAPES)
