"""The root module: its forward pass is the loss, and nothing of it reaches a checkpoint."""

from __future__ import annotations

import pytest
import torch

from gemmary.train.loss import cross_entropy
from gemmary.train.objective import Objective
from gemmary.train.sampling import Distillation
from gemmary.train.teacher import OnlineTeacher
from tests.train import toys


def test_next_tokens_give_the_loss_and_gradients_of_before_bit_for_bit() -> None:
    model, (step, labels, weights) = toys.model(), toys.rows().take(slice(0, 4)).step()
    parameters = list(model.parameters())
    apart = cross_entropy(model(step), model.table.weight, labels, weights)
    inside = Objective(model)(step, labels, weights)
    assert inside.item() == apart.item()
    for mine, theirs in zip(*(torch.autograd.grad(x, parameters) for x in (inside, apart)), strict=True):
        assert torch.equal(mine, theirs)


def test_z_loss_draws_the_logits_to_a_sum_of_one() -> None:
    model, (step, labels, weights) = toys.model(), toys.rows().take(slice(0, 4)).step()
    plain, with_z = (Objective(model, z=z)(step, labels, weights).item() for z in (0.0, 0.5))
    lse = (model(step) @ model.table.weight.T).logsumexp(-1)
    assert with_z - plain == pytest.approx(0.5 * (lse**2 * torch.from_numpy(weights)).sum().item(), rel=1e-5)


def test_the_root_adds_no_parameters() -> None:
    model = toys.model()
    assert list(Objective(model).parameters()) == list(model.parameters())


def test_targets_and_distillation_go_together() -> None:
    model, rows = toys.model(), toys.rows().take(slice(0, 2))
    how = Distillation(draws=4)
    found = OnlineTeacher(toys.model(seed=1), how).sampled(rows)
    with pytest.raises(ValueError, match="both or neither"):
        Objective(model, how)(*rows.step())
    with pytest.raises(ValueError, match="both or neither"):
        Objective(model)(*rows.step(), found)
    assert Objective(model, how)(*rows.step(), found).isfinite()


def test_a_teacher_is_not_trained() -> None:
    teacher = OnlineTeacher(toys.model(seed=1), Distillation(draws=4))
    assert not any(p.requires_grad for p in teacher.model.parameters())
