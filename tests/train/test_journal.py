"""The log belongs to the checkpoint it goes on from, and a full disk does not end a run."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from gemmary.train.journal import Journal


def record(step: int) -> dict[str, float]:
    return {"step": step, "loss": 2.0 / step, "tokens": 100}


def steps(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text(encoding="utf-8").splitlines()]


def test_lines_beyond_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with Journal(path, 0, 5) as journal:
        for step in range(1, 6):
            journal.write(record(step))
    with Journal(path, 3, 5) as journal:
        assert steps(path) == [1, 2, 3]
        journal.write(record(4))
    assert steps(path) == [1, 2, 3, 4]
    assert all(json.loads(line)["seconds"] >= 0 for line in path.read_text(encoding="utf-8").splitlines())


def test_a_full_disk_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*arguments: object, **named: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with Journal(tmp_path / "log.jsonl", 0, 5) as journal:
        with monkeypatch.context() as broken:
            broken.setattr(Path, "open", full)
            journal.write(record(1))
            journal.write(record(2))
        journal.write(record(3))
    assert capsys.readouterr().err.count("No space left on device") == 1
    assert steps(tmp_path / "log.jsonl") == [3]


def test_progress_shows_step_loss_speed_and_time_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Journal(tmp_path / "log.jsonl", 0, 40) as journal:
        journal.write(record(1))
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "step 1/40  loss 2.000" in shown.err and "tokens/s" in shown.err and "min left" in shown.err
