"""A log is read whatever happened to it, and what it says of a step is what the run did last."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from gemmary.train import log


def line(step: object, loss: object = 1.0, **more: object) -> str:
    return json.dumps({"step": step, "loss": loss, "tokens": 10, **more})


def written(path: Path, *lines: str, end: str = "\n") -> log.Log:
    (path / "log.jsonl").write_text("\n".join(lines) + end, encoding="utf-8")
    return log.read(path / "log.jsonl")


def steps(found: log.Log) -> list[int]:
    return [record["step"] for record in found.records]


def test_a_missing_and_an_empty_log_have_no_steps(tmp_path: Path) -> None:
    assert log.read(tmp_path / "log.jsonl") == log.Log()
    assert written(tmp_path, end="") == log.Log()


def test_a_line_that_was_cut_is_counted_and_left_out(tmp_path: Path) -> None:
    found = written(tmp_path, line(1), line(2)[:17], end="")
    assert steps(found) == [1] and found.unread == 1


def test_where_a_run_went_back_the_later_lines_count(tmp_path: Path) -> None:
    found = written(tmp_path, line(1), line(2, 7.0), line(3, 7.0), line(2, 5.0), line(3, 4.0))
    assert [record["loss"] for record in found.records] == [1.0, 5.0, 4.0]
    assert [json.loads(text)["loss"] for text in found.lines] == [1.0, 5.0, 4.0]


def test_until_a_step(tmp_path: Path) -> None:
    found = written(tmp_path, *(line(step) for step in range(1, 6))).until(3)
    assert steps(found) == [1, 2, 3] and len(found.lines) == 3


def test_losses_that_are_not_finite_are_records(tmp_path: Path) -> None:
    found = written(tmp_path, line(1, math.nan), line(2, math.inf))
    assert math.isnan(found.records[0]["loss"]) and found.records[1]["loss"] == math.inf


@pytest.mark.parametrize(
    "bad",
    [
        "[1]", "null", "{}", "{}}", line(None), line("1"), line(True), line(1.5), line(2, "low"),
        line(2, None), line(2, norm="x"), line(2, rate=None), line(2, 10**400), line(10**30),
        "[" * 100_000, "\0" * 512,
        '{"step": 2, "loss": 1}',
    ],
)  # fmt: skip
def test_what_is_no_record_of_a_step_is_left_out(tmp_path: Path, bad: str) -> None:
    found = written(tmp_path, line(1), bad, line(2))
    assert steps(found) == [1, 2] and found.unread == 1


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_bytes(
        b"\xff\xfe\x00" + line(1).encode() + b"\n" + line(2).encode() + b"\n"
    )
    assert steps(log.read(tmp_path / "log.jsonl")) == [2]
