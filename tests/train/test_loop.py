"""The loop learns, counts every token the same, and goes on exactly where a kill cut it off."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gemmary.errors import GemmaryError
from gemmary.train import history, tensor_files
from gemmary.train.checkpoint import load_latest
from gemmary.train.loop import DivergedError, Trainer
from gemmary.train.loss import mean_loss
from gemmary.train.optimizer import Learning
from gemmary.train.spike import Spikes
from gemmary.train.task import Lesson
from gemmary.train.text_task import TextTask
from tests.train import toys
from tests.train.toys import log

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys, pathlib
from gemmary.train.spike import Spikes
from tests.train import toys
toys.trainer(pathlib.Path(sys.argv[1]), **eval(sys.argv[2])).run()
"""
# a loss half a deviation above the last ones is a spike
EVERYTHING = {"ema": 0.99, "background": True, "recompute": True,
              "spikes": Spikes(window=5, limit=0.5, back=2, times=1000)}  # fmt: skip


def weights(trainer: Trainer) -> list[torch.Tensor]:
    return [p.detach().clone() for p in trainer.parameters]


def spoil(trainer: Trainer, change: Callable[[Lesson], Lesson]) -> None:
    """Let `change` have its way with the lesson of every micro-batch."""
    honest = trainer.task.loss
    trainer.task.loss = lambda part: change(honest(part))  # type: ignore[method-assign]


def run_process(folder: Path, how: dict[str, Any]) -> subprocess.Popen[bytes]:
    """The toy run in a process of its own."""
    command = [sys.executable, "-c", PROGRAM, str(folder), repr(how)]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)


def killed_runs(folder: Path, kills: int, seed: int, how: dict[str, Any], last: float) -> list[int]:
    """Start the run and kill it at a random time, `kills` times; then let it end. How far each one came.

    `last`: the seconds that all of it takes. The runs that are killed have a third of them, on average.
    """
    dice = np.random.default_rng(seed)
    came = []
    for start in range(kills):
        process = run_process(folder, how)
        deadline = time.monotonic() + 60
        while len(history.read(folder)) <= start + _steps_back(folder) and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(dice.uniform(0, 0.6 * last / kills))
        assert process.poll() is None, "the run ended before it was killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
        came.append(_lines(folder))
        print(f"kill {start + 1} after step {came[-1]}")
    assert run_process(folder, how).wait(timeout=300) == 0
    return came


def _steps_back(folder: Path) -> int:
    """Events that are no start of a process."""
    return sum("went back" in event.what for event in history.read(folder))


def _lines(folder: Path) -> int:
    path = folder / "log.jsonl"
    return path.read_text(encoding="utf-8").count("\n") if path.exists() else 0


def check_kills(folder: Path, kills: int, steps: int, **settings: Any) -> None:
    how = {"steps": steps, **settings}
    whole = toys.trainer(folder / "whole", **how)
    assert whole.run()
    seconds = sum(record["seconds"] for record in toys.records(folder / "whole"))
    came = killed_runs(folder / "cut", kills, seed=kills, how=how, last=seconds)
    assert len(set(came)) > kills // 2  # most of them in the midst of it
    found = log(folder / "cut")
    assert found == log(folder / "whole")
    step, loss, _ = found[came[-1] - 1]
    print(f"{len(found)} losses and norms are those of a run that was never cut; step {step}: {loss}")
    assert toys.notes(folder / "cut") == toys.notes(folder / "whole")
    again = toys.trainer(folder / "cut", **how)
    again.run()
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(again), strict=True))
    assert all(torch.equal(again.averaged()[name], a) for name, a in whole.averaged().items())


def test_killed_and_resumed_is_uninterrupted_bit_for_bit(tmp_path: Path) -> None:
    check_kills(tmp_path, kills=1, steps=50)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_twenty_kills(tmp_path: Path) -> None:
    check_kills(tmp_path, kills=20, steps=500)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_twenty_kills_of_a_run_that_steps_back_and_writes_beside_itself(tmp_path: Path) -> None:
    check_kills(tmp_path, kills=20, steps=300, **EVERYTHING)
    assert toys.notes(tmp_path / "whole")


def test_a_run_that_is_done_writes_nothing(tmp_path: Path) -> None:
    assert toys.trainer(tmp_path, 3).run()
    kept = next(tmp_path.glob("step-*"))
    before = kept.stat().st_ino
    again = toys.trainer(tmp_path, 3)
    assert again.run() and again.step == 3
    assert [path.stat().st_ino for path in tmp_path.glob("step-*")] == [before]


def go_on_after_a_full_disk(folder: Path, full: Callable[[Trainer], AbstractContextManager[None]]) -> None:
    """Run till the disk is full, free it, run on: the run is as if it had never been full."""
    torch.manual_seed(0)
    stopped, rest = toys.trainer(folder, 16, layers=1), toys.trainer(folder, 16, layers=1)
    with full(stopped), pytest.raises(GemmaryError, match="free some disk space"):
        stopped.run()
    assert stopped.step < 16
    found = load_latest(folder)
    assert found is not None and found.step == stopped.step - 4
    assert rest.run()
    whole = toys.trainer(folder.parent / "whole", 16, layers=1)
    assert whole.run()
    assert log(folder) == log(folder.parent / "whole")
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(rest), strict=True))


def test_a_run_goes_on_after_a_disk_that_says_it_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*arguments: object, **named: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    @contextmanager
    def full(trainer: Trainer) -> Iterator[None]:
        def from_here(lesson: Lesson) -> Lesson:
            if trainer.step == 10:
                patch.setattr(tensor_files, "save_file", no_room)
            return lesson

        with monkeypatch.context() as patch:
            spoil(trainer, from_here)
            yield

    go_on_after_a_full_disk(tmp_path / "run", full)


def test_a_run_goes_on_after_a_disk_that_is_really_full(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a small file system")

    @contextmanager
    def full(trainer: Trainer) -> Iterator[None]:
        def from_here(lesson: Lesson) -> Lesson:
            if trainer.step == 10 and not (disk / "filler").exists():
                with suppress(OSError), (disk / "filler").open("wb", buffering=0) as file:
                    while file.write(bytes(4096)):
                        pass
            return lesson

        spoil(trainer, from_here)
        yield
        (disk / "filler").unlink()

    try:
        go_on_after_a_full_disk(disk, full)
    finally:
        subprocess.run(["umount", disk], check=True)


def test_it_learns(tmp_path: Path) -> None:
    trainer = toys.trainer(tmp_path, 40)
    before = mean_loss(trainer.task.module, toys.rows(seed=9))
    assert trainer.run()
    assert mean_loss(trainer.task.module, toys.rows(seed=9)) < 0.5 * before


def test_threads_and_micro_batches_do_not_change_the_step(tmp_path: Path) -> None:
    cuts = {"1": (8, 1, 1), "2": (4, 2, 1), "4": (2, 4, 3)}
    runs = {
        name: toys.trainer(tmp_path / name, 1, rows=rows, parts=parts, workers=workers)
        for name, (rows, parts, workers) in cuts.items()
    }
    for trainer in runs.values():
        trainer.run()
    for other in ("2", "4"):
        for mine, theirs in zip(runs[other].parameters, runs["1"].parameters, strict=True):
            torch.testing.assert_close(mine.grad, theirs.grad, rtol=0, atol=1e-6)


def test_same_seed_twice_is_the_same_run(tmp_path: Path) -> None:
    for name in ("a", "b"):
        toys.trainer(tmp_path / name, 5).run()
    assert log(tmp_path / "a") == log(tmp_path / "b")


def test_a_step_that_is_not_finite_changes_nothing_and_many_end_the_run(tmp_path: Path) -> None:
    trainer = toys.trainer(tmp_path, 20, patience=3)
    spoil(trainer, lambda lesson: lesson._replace(loss=lesson.loss * float("nan")))
    before = weights(trainer)
    with pytest.raises(DivergedError, match="not finite for 3 steps"):
        trainer.run()
    assert all(torch.equal(a, b) for a, b in zip(before, weights(trainer), strict=True))


def test_one_bad_step_is_passed_over(tmp_path: Path) -> None:
    trainer = toys.trainer(tmp_path, 8)

    def sometimes(lesson: Lesson) -> Lesson:
        return lesson._replace(loss=lesson.loss + (float("inf") if trainer.step == 3 else 0.0))

    spoil(trainer, sometimes)
    assert trainer.run()
    assert trainer.skipped == 0
    assert all(p.isfinite().all() for p in trainer.parameters)


@pytest.mark.parametrize("change", [{"seed": 5}, {"clip": 0.5}, {"learning": Learning(peak=2e-2)}])
def test_another_plan_does_not_go_on_in_the_same_folder(tmp_path: Path, change: dict[str, object]) -> None:
    toys.trainer(tmp_path, 4, layers=1).run()
    with pytest.raises(GemmaryError, match=rf"another plan \({next(iter(change))}\); use another folder"):
        toys.trainer(tmp_path, 4, layers=1, **change).run()


def test_habits_that_change_no_bit_may_change(tmp_path: Path) -> None:
    assert toys.trainer(tmp_path / "a", 8, layers=1).run()
    assert toys.trainer(tmp_path / "b", 4, layers=1).run() is True
    longer = toys.trainer(tmp_path / "b", 8, layers=1, recompute=True, background=True, keep=5)
    assert longer.run()
    assert len(log(tmp_path / "b")) == len(log(tmp_path / "a")) == 8


def test_other_data_does_not_go_on_in_the_same_folder(tmp_path: Path) -> None:
    toys.trainer(tmp_path, 4).run()
    with pytest.raises(GemmaryError, match="another data"):
        Trainer(TextTask(toys.model(), toys.rows(seed=2), toys.plan(8)), toys.plan(8), tmp_path).run()


def test_a_run_can_be_made_longer(tmp_path: Path) -> None:
    toys.trainer(tmp_path, 8).run()
    longer = toys.trainer(tmp_path, 12)
    assert longer.run()
    assert [step for step, _, _ in log(tmp_path)] == list(range(1, 13))


def test_two_runs_in_one_folder_are_refused(tmp_path: Path) -> None:
    trainer = toys.trainer(tmp_path, 2)

    def meanwhile(lesson: Lesson) -> Lesson:
        with pytest.raises(GemmaryError, match="another run trains here"):
            toys.trainer(tmp_path, 2).run()
        return lesson

    spoil(trainer, meanwhile)
    assert trainer.run()


def test_sigterm_ends_at_a_step_with_a_checkpoint(tmp_path: Path) -> None:
    whole, cut, rest = (toys.trainer(tmp_path / name, 10, parts=1) for name in ("whole", "cut", "cut"))
    assert whole.run()

    def signalled(lesson: Lesson) -> Lesson:
        if cut.step == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return lesson

    spoil(cut, signalled)
    assert not cut.run()
    assert 5 < cut.step < 10
    assert rest.run()
    assert log(tmp_path / "cut") == log(tmp_path / "whole")


def test_a_log_line_that_a_kill_cut_is_dropped(tmp_path: Path) -> None:
    toys.trainer(tmp_path, 4).run()
    with (tmp_path / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 5, "lo')
    toys.trainer(tmp_path, 8).run()
    assert [step for step, _, _ in log(tmp_path)] == list(range(1, 9))


@pytest.mark.long
@pytest.mark.timeout(300)
def test_compiled_layers_learn_the_same(tmp_path: Path) -> None:
    plain, compiled = (toys.trainer(tmp_path / str(c), 6, fuse=c) for c in (False, True))
    for trainer in (plain, compiled):
        trainer.run()
    data = replace(toys.rows(seed=4))
    assert mean_loss(plain.task.module, data) == pytest.approx(
        mean_loss(compiled.task.module, data), rel=1e-3
    )
