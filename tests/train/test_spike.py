"""A spike is seen, noise is not; the run goes on before it without its data, the same after any kill."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gemmary.train.loop import DivergedError, Trainer
from gemmary.train.spike import SpikeGuard, Spikes
from tests.train import toys

HOW = Spikes(window=5, limit=10.0, back=1, times=2)


def test_noise_and_a_falling_loss_are_no_spikes() -> None:
    dice = np.random.default_rng(0)
    guard = SpikeGuard(Spikes())
    losses = 2.0 + 6.0 * np.exp(-np.arange(4000) / 300) + 0.1 * dice.normal(size=4000)
    assert not any(guard.fault(float(loss)) for loss in losses)


@pytest.mark.parametrize("outliers", [0, 20])
def test_a_jump_is_seen_even_where_some_of_the_recent_losses_were_odd(outliers: int) -> None:
    dice = np.random.default_rng(1)
    guard = SpikeGuard(Spikes(window=64))
    losses = [*2.0 + 0.1 * dice.normal(size=64 - outliers), *[0.0] * outliers]
    assert not any(guard.fault(float(loss)) for loss in losses)
    assert "jumped to 4.5, where" in str(guard.fault(4.5))
    assert guard.fault(4.5), "a spike is not remembered as usual"
    assert guard.fault(2.2) is None


def test_nothing_is_seen_before_there_is_a_window_or_without_a_plan() -> None:
    for guard in (SpikeGuard(Spikes(window=10)), SpikeGuard(None)):
        assert not any(guard.fault(loss) for loss in [2.0] * 9 + [900.0])


def test_what_is_not_finite_is_left_to_the_other_guard() -> None:
    guard = SpikeGuard(Spikes(window=2))
    assert not any(guard.fault(loss) for loss in (1.0, 1.0, float("nan"), float("inf"), 1.0))
    json.dumps(guard.state(), allow_nan=False)


def test_it_steps_back_far_enough_and_not_for_ever() -> None:
    guard = SpikeGuard(Spikes(window=8, back=10, times=2))
    state = guard.state()
    assert guard.target(7, every=50) == 0
    assert guard.target(109, every=50) == 50
    assert guard.target(110, every=50) == 100
    guard.step_back(110, 100, state, "")
    assert guard.leap == 11  # batches 100 to 110
    guard.step_back(112, 100, state, "")
    assert guard.leap == 24  # and then 111 to 123
    assert guard.target(114, every=50) is None
    assert guard.target(120, every=50) == 100  # after a window without one
    assert Spikes(back=10).kept(50) == 2 and Spikes(back=101).kept(50) == 4


def test_its_state_goes_through_json_exactly() -> None:
    guard, other = SpikeGuard(HOW), SpikeGuard(HOW)
    for loss in (0.1, 0.2, 1 / 3, 0.30000000000000004):
        guard.fault(loss)
    guard.step_back(9, 4, guard.state(), "why")
    other.restore(json.loads(json.dumps(guard.state())))
    assert other.state() == guard.state()


def spoilt(trainer: Trainer, bad: Callable[[int], float]) -> list[int]:
    """Multiply the loss of batch n by `bad(n)`; gives the batches that were asked for, one by one."""
    asked: list[int] = []
    honest, parts = trainer.task.loss, trainer.task.parts

    def recorded(batch: int) -> list[Any]:
        asked.append(batch)
        return list(parts(batch))

    def loss(part: Any) -> Any:
        lesson = honest(part)
        return lesson._replace(loss=lesson.loss * bad(asked[-1]))

    trainer.task.parts, trainer.task.loss = recorded, loss  # type: ignore[method-assign]
    return asked


def made(folder: Path, **changes: object) -> Trainer:
    usual = {"spikes": HOW, "parts": 1, "workers": 1}
    return toys.trainer(folder, 20, layers=1, **{**usual, **changes})


def test_the_run_goes_back_and_leaves_the_bad_data_out(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    trainer = made(tmp_path)
    asked = spoilt(trainer, lambda batch: 9.0 if batch == 14 else 1.0)
    assert trainer.run()
    # batch 14 is step 15: back to the checkpoint of step 12, past the batches 12, 13 and 14
    assert asked == [*range(15), *range(15, 23)]
    records = toys.records(tmp_path)
    assert [record["step"] for record in records] == list(range(1, 21))
    [(step, [said])] = toys.notes(tmp_path)
    assert step == 13 and said.startswith("step 15: the loss jumped to ")
    assert said.endswith("going on from step 12 without the data of 3 steps")
    assert capfd.readouterr().err.count(said) == 1


@pytest.mark.parametrize("at", [(10,), (16, 18)])
def test_killed_anywhere_it_goes_on_as_if_it_never_was(
    tmp_path_factory: pytest.TempPathFactory, whole: tuple[Any, list[torch.Tensor]], at: tuple[int, ...]
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    for batch in (*at, None):
        trainer = made(folder)
        spoilt(trainer, bad)
        if batch is None:
            assert trainer.run()
        else:
            toys.stop_at(trainer, batch)
            with pytest.raises(toys.Stopped):
                trainer.run()
    assert (toys.log(folder), toys.notes(folder)) == whole[0]
    assert all(torch.equal(a, b) for a, b in zip(trainer.parameters, whole[1], strict=True))


def bad(batch: int) -> float:
    return 9.0 if batch in (14, 17) else 1.0


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, list[torch.Tensor]]:
    """Log, notes and weights of the run with two spikes that was never cut."""
    folder = tmp_path_factory.mktemp("whole")
    trainer = made(folder)
    spoilt(trainer, bad)
    assert trainer.run()
    [(step, said)] = toys.notes(folder)
    assert step == 13 and len(said) == 2, "both went back to step 12"
    return (toys.log(folder), toys.notes(folder)), trainer.parameters


def test_when_stepping_back_does_not_help_the_run_ends_with_a_sentence(tmp_path: Path) -> None:
    trainer = made(tmp_path)
    asked = spoilt(trainer, lambda batch: 9.0 if batch >= 14 else 1.0)
    with pytest.raises(DivergedError, match=r"step 9: the loss jumped to .* a lower learning rate may help"):
        trainer.run()
    assert asked == list(range(17))  # on from 12, then from 8


def test_a_run_of_nans_is_left_behind_too(tmp_path: Path) -> None:
    trainer = made(tmp_path, patience=2)
    asked = spoilt(trainer, lambda batch: float("nan") if batch in (13, 14) else 1.0)
    assert trainer.run()
    assert asked == list(range(23))
    assert "not finite for 2 steps" in toys.notes(tmp_path)[0][1][0]


def test_where_no_checkpoint_is_early_enough_the_oldest_is_taken(tmp_path: Path) -> None:
    trainer = made(tmp_path, spikes=replace(HOW, times=3))
    asked = spoilt(trainer, lambda batch: 9.0 if batch in (14, 15, 16) else 1.0)
    assert trainer.run()
    assert asked == list(range(29))  # back to 12, then 8, then 8 again, for 4 is no more
    assert [step for step, _ in toys.notes(tmp_path)] == [9]


def test_a_spike_before_the_first_checkpoint_begins_again(tmp_path: Path) -> None:
    trainer = made(tmp_path, checkpoint_every=30)
    asked = spoilt(trainer, lambda batch: 9.0 if batch == 6 else 1.0)
    before = [p.detach().clone() for p in trainer.parameters]
    assert trainer.run()
    assert asked == list(range(27))
    assert not any(torch.equal(a, b) for a, b in zip(before, trainer.parameters, strict=True))
