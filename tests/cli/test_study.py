"""`gemmary study`: the list, one study, and what cannot be."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from gemmary import cli
from gemmary.recipes.studies.catalogue import TITLES


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Exit code of `gemmary study words...`."""
    monkeypatch.setattr(sys, "argv", ["gemmary", "study", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


def test_the_list(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(TITLES)
    assert all(len(line.split()) > 4 for line in lines)


def test_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert run(monkeypatch, "kv", "--quick", "--work", str(tmp_path), "--out", str(out)) == 0
    told = capsys.readouterr()
    assert "1745" in told.out
    assert "figure 5" in told.err
    assert json.loads((out / "kv.json").read_text(encoding="utf-8"))["study"] == "kv"
    assert {path.name for path in out.iterdir()} == {"README.md", "kv.json", "kv.md", "kv.svg", "kv-2.svg"}


def test_what_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "nope") == 1
    assert "there is no study 'nope'; there are ratio" in capsys.readouterr().err
    assert run(monkeypatch, "ratio", "--data", str(tmp_path)) == 1
    assert "has no folder books/" in capsys.readouterr().err
    assert run(monkeypatch, "ratio", "--seeds", "1") == 2
