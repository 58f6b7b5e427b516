"""The command that prepares data, by a plan of one's own; and that the built-in plan finds its files."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from gemmary.recipes import mixture
from gemmary.train.data.contamination import Evaluation, evaluation_texts
from gemmary.train.data.sources import source_files
from tests.train.data.toyfiles import write

DATA = Path(os.environ.get("GEMMARY_DATA", Path(__file__).parents[3] / "shared" / "data"))
PLAN = """
vocabulary = "tokenizer.model"
near_duplicates = false
epochs = 1

[[source]]
name = "texts"
paths = ["*.jsonl"]
by_file = true
"""


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["mixture", *map(str, arguments)])
    mixture.main()


def test_a_plan_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path / "data")
    (tmp_path / "plan.toml").write_text(PLAN)
    given = ("--plan", tmp_path / "plan.toml", "--data", folder, "--out", tmp_path / "out")
    command(monkeypatch, *given)
    assert capsys.readouterr().out.startswith("86 documents, ")
    assert "texts/few" in (tmp_path / "out" / "report.html").read_text()
    with pytest.raises(SystemExit, match="is there already"):
        command(monkeypatch, *given)


def test_the_built_in_plan_finds_its_files() -> None:
    if not DATA.is_dir():
        pytest.skip(f"needs the data folder at {DATA} (or GEMMARY_DATA)")
    names = {name for source in mixture.MIXTURE.sources for name, _ in source_files(source, DATA)}
    assert len(names) > 400
    paths = [path for pattern in mixture.MIXTURE.evaluation for path in DATA.glob(pattern)]
    assert len(Evaluation(evaluation_texts(paths))) > 100_000
