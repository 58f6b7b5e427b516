"""However gradients are made, they are those of one large batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gemmary.train.gradients import DeviceGradients, Gradients, Sums, ThreadedGradients
from gemmary.train.loop import Trainer
from gemmary.train.task import Task
from gemmary.train.text_task import TextTask
from tests.train import toys

WAYS: dict[str, Callable[[Task], Gradients]] = {
    "one thread": lambda task: ThreadedGradients(task, 1),
    "three threads": lambda task: ThreadedGradients(task, 3),
    "a device": DeviceGradients,
}


def task(**changes: object) -> TextTask:
    how = toys.plan(1, rows=2, parts=4, **changes)
    return TextTask(toys.model(toys.small(1)), toys.rows(), how)


def made(way: str, given: TextTask, parts: list[object]) -> tuple[Sums, list[torch.Tensor]]:
    with WAYS[way](given) as gradients:
        sums = gradients.accumulate(parts)
    grads = [p.grad for p in given.module.parameters()]
    assert all(grad is not None for grad in grads)
    return sums, [grad.clone() for grad in grads if grad is not None]


@pytest.mark.parametrize("way", WAYS)
def test_micro_batches_add_up_to_the_gradient_of_the_whole(way: str) -> None:
    given = task()
    whole = toys.rows().take(np.concatenate([part.number for part in given.parts(0)]))
    lesson = given.loss(whole)
    wanted = torch.autograd.grad(lesson.loss / lesson.weight, list(given.module.parameters()))
    sums, grads = made(way, given, given.parts(0))  # type: ignore[arg-type]
    assert sums.weight == lesson.weight == whole.weights.sum()
    assert sums.tokens == whole.tokens
    assert sums.loss == pytest.approx(lesson.loss.item(), rel=1e-6)
    for mine, theirs in zip(grads, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("way", WAYS)
def test_the_next_step_begins_at_zero_with_the_same_bits(way: str) -> None:
    given = task()
    with WAYS[way](given) as gradients:
        first, second = (
            (gradients.accumulate(given.parts(0)), [p.grad for p in given.module.parameters()])
            for _ in range(2)
        )
    assert first[0] == second[0]
    assert all(torch.equal(a, b) for a, b in zip(first[1], second[1], strict=True))


@pytest.mark.parametrize("way", WAYS)
def test_a_parameter_that_no_part_uses_gets_zeros(way: str) -> None:
    given = task()
    given.model.unused = torch.nn.Linear(2, 2)
    _, grads = made(way, given, given.parts(0)[:2])  # type: ignore[arg-type]
    assert [int(grad.count_nonzero()) for grad in grads[-2:]] == [0, 0]


@pytest.mark.parametrize("way", WAYS)
def test_where_nothing_counts_the_gradient_is_not_finite(way: str) -> None:
    given = task()
    part = given.parts(0)[0]
    nothing = replace(part, weights=np.zeros_like(part.weights))
    sums, grads = made(way, given, [nothing])
    assert sums.weight == 0 and not any(grad.isfinite().all() for grad in grads)


def test_threads_use_one_core_each_and_the_number_comes_back() -> None:
    before = torch.get_num_threads()
    given = task()
    honest, seen = given.loss, []

    def loss(part: object) -> object:
        seen.append(torch.get_num_threads())
        return honest(part)  # type: ignore[arg-type]

    given.loss = loss  # type: ignore[method-assign, assignment]
    torch.set_num_threads(2)
    try:
        made("three threads", given, given.parts(0))  # type: ignore[arg-type]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen == [1] * 4


def test_a_trainer_learns_and_goes_on_with_the_gradients_that_it_is_given(tmp_path: Path) -> None:
    def trainer(name: str) -> Trainer:
        how = toys.plan(6, parts=1)
        given = TextTask(toys.model(toys.small(1)), toys.rows(), how)
        return Trainer(given, how, tmp_path / name, DeviceGradients(given))

    whole, cut = trainer("whole"), trainer("cut")
    assert whole.run()
    toys.stop_at(cut, 5)
    with pytest.raises(toys.Stopped):
        cut.run()
    assert trainer("cut").run()
    assert toys.log(tmp_path / "cut") == toys.log(tmp_path / "whole")
    losses = [record["loss"] for record in toys.records(tmp_path / "whole")]
    assert losses[-1] < losses[0] and all(map(math.isfinite, losses))
