"""The log belongs to the checkpoint it goes on from, and neither a full disk nor a report ends a run."""

from __future__ import annotations

import errno
import json
import math
from pathlib import Path

import pytest

from gemmary.train import history, runpage
from gemmary.train.about import About
from gemmary.train.journal import Journal
from tests.train.test_eventfile import scalars


def record(step: int) -> dict[str, float]:
    return {"step": step, "loss": 2.0 / step, "norm": 0.5, "tokens": 100}


def journal(folder: Path, first: int, steps: int) -> Journal:
    return Journal(folder, first, steps, About())


def steps(folder: Path) -> list[int]:
    return [
        json.loads(line)["step"] for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    ]


def happened(folder: Path) -> list[tuple[int, str]]:
    return [(event.step, event.what) for event in history.read(folder)]


def write(folder: Path, first: int, *after: int, of: int = 10) -> None:
    with journal(folder, first, of) as opened:
        for step in after:
            opened.write(record(step))


def test_lines_beyond_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    write(tmp_path, 0, 1, 2, 3, 4, 5)
    with journal(tmp_path, 3, 10) as opened:
        assert steps(tmp_path) == [1, 2, 3]
        opened.write(record(4))
    assert steps(tmp_path) == [1, 2, 3, 4]
    lines = (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()
    assert all(json.loads(line)["seconds"] >= 0 for line in lines)
    pytest.importorskip("tensorboard")
    assert scalars(tmp_path / "tensorboard", "loss") == pytest.approx({s: 2 / s for s in (1, 2, 3, 4)})
    assert scalars(tmp_path / "tensorboard", "norm").keys() == {1, 2, 3, 4}


def test_lines_that_are_kept_stay_byte_for_byte(tmp_path: Path) -> None:
    write(tmp_path, 0, 1, 2, 3)
    before = (tmp_path / "log.jsonl").read_bytes()
    write(tmp_path, 3)
    assert (tmp_path / "log.jsonl").read_bytes() == before


def test_a_step_back_is_noted_and_makes_later_steps_void(tmp_path: Path) -> None:
    with journal(tmp_path, 0, 10) as opened:
        for step in (1, 2, 3, 4):
            opened.write(record(step))
        opened.back(2, "the loss jumped")
        assert steps(tmp_path) == [1, 2]
        for step in (3, 4):
            opened.write(record(step))
    assert (2, "went back to step 2: the loss jumped") in happened(tmp_path)
    write(tmp_path, 4, 5)
    assert steps(tmp_path) == [1, 2, 3, 4, 5]
    pytest.importorskip("tensorboard")
    assert scalars(tmp_path / "tensorboard", "loss").keys() == {1, 2, 3, 4, 5}


def test_history_tells_how_a_run_began_went_on_and_ended(tmp_path: Path) -> None:
    write(tmp_path, 0, 1, 2, of=4)
    with pytest.raises(KeyboardInterrupt), journal(tmp_path, 2, 4):
        raise KeyboardInterrupt
    with pytest.raises(ValueError), journal(tmp_path, 2, 4) as opened:
        opened.write(record(3))
        raise ValueError("no more")
    write(tmp_path, 3, 4, of=4)
    write(tmp_path, 4, of=4)  # nothing was left to do
    assert happened(tmp_path) == [
        (0, "began"),
        (2, "was interrupted"),
        (2, "went on from step 2"),
        (2, "was stopped at once, by Ctrl-C"),
        (2, "went on from step 2"),
        (3, "failed: no more"),
        (3, "went on from step 3"),
        (4, "ended"),
    ]


def test_the_report_is_there_at_the_end_however_it_came(tmp_path: Path) -> None:
    with pytest.raises(ValueError), journal(tmp_path, 0, 4) as opened:
        opened.write({**record(1), "loss": math.nan})
        raise ValueError("no more")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "it failed: no more" in page and "not a finite number" in page


def test_a_report_that_fails_costs_nothing_but_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(folder: Path) -> Path:
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr(runpage, "write", broken)
    write(tmp_path, 0, 1)
    said = capsys.readouterr().err
    assert "could not be written (a fault)" in said and "python -m gemmary.train.runpage" in said


def test_a_full_disk_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*arguments: object, **named: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with journal(tmp_path, 0, 5) as opened:
        with monkeypatch.context() as broken:
            broken.setattr(Path, "open", full)
            opened.write(record(1))
            opened.write(record(2))
        opened.write(record(3))
    assert capsys.readouterr().err.count("No space left on device") == 1
    assert steps(tmp_path) == [3]
    assert "report.html" in {path.name for path in tmp_path.iterdir()}
