"""Which parameter is updated how, and the learning rate over time."""

from __future__ import annotations

import itertools

import pytest
import torch

from gemmary.train.optimizer import Learning, optimizers, update
from tests.train import toys


def test_rate_goes_up_stays_and_comes_down_to_almost_nothing() -> None:
    learning = Learning(peak=2.0, warmup=4, cooldown=10)
    rates = [learning.rate(step, 40) for step in range(40)]
    assert rates[:4] == [0.5, 1.0, 1.5, 2.0]
    assert set(rates[3:31]) == {2.0}
    assert all(a > b for a, b in itertools.pairwise(rates[30:]))
    assert 0 < rates[-1] < 0.11
    assert learning.rate(40, 40) == 0


def test_level_part_does_not_depend_on_the_length() -> None:
    learning = Learning(cooldown=10)
    assert [learning.rate(s, 200) for s in range(150)] == [learning.rate(s, 400) for s in range(150)]


@pytest.mark.parametrize("muon", [0.0, 2.0])
def test_every_parameter_has_one_optimizer_and_only_matrices_decay(muon: float) -> None:
    model = toys.model()
    found = optimizers(model, Learning(muon=muon))
    held = [p for o in found for group in o.param_groups for p in group["params"]]
    assert len(held) == len(set(held)) == len(list(model.parameters()))
    decayed = {p for o in found for group in o.param_groups if group["weight_decay"] for p in group["params"]}
    names = {name for name, p in model.named_parameters() if p in decayed}
    matrices = ("q.weight", "k.weight", "v.weight", "o.weight", "gate.weight", "up.weight", "down.weight")
    assert names == {name for name in dict(model.named_parameters()) if name.endswith(matrices)}


@pytest.mark.parametrize("muon", [0.0, 2.0])
def test_update_moves_weights_by_the_rate_and_not_at_rate_zero(muon: float) -> None:
    model = toys.model()
    found = optimizers(model, Learning(muon=muon))
    before = [p.detach().clone() for p in model.parameters()]
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(0))
    update(found, 0.0)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    update(found, 1e-2)
    moved = [(b - a).abs().mean().item() for a, b in zip(before, model.parameters(), strict=True)]
    assert all(1e-3 < distance < 5e-2 for distance in moved)
