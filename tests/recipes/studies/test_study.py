"""A study goes on where it was cut, keeps every number, and says what it found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gemmary.errors import GemmaryError
from gemmary.recipes.pictures.fonts import FontError
from gemmary.recipes.studies import catalogue, page
from gemmary.recipes.studies.figure import Figure, Point, Series
from gemmary.recipes.studies.study import Findings, Points, Runs, Study
from tests.recipes.studies import library

ORIGIN = {"commit": "abc", "device": "a machine"}


class Bench:
    """Measures something whose truth is known, and remembers what it was asked."""

    def __init__(self, cut: int | None = None) -> None:
        self.asked: list[tuple[str, int]] = []
        self.cut = cut

    def measure(self, variant: str, seed: int) -> Points:
        if len(self.asked) == self.cut:
            raise KeyboardInterrupt
        self.asked.append((variant, seed))
        return {"loss": {"a": 1.0, "b": 1.5}[variant] + 10 * seed + 0.001 * seed * (variant == "b")}


def study(bench: Bench, **settings: object) -> Study:
    return Study("ratio", "A title", "The report's words.", settings, ("a", "b"), bench.measure, find)


def find(runs: Runs) -> Findings:
    figure = Figure("f", "x", "y", (Series("s", (Point(0, runs.spread("a", "loss").mean),)),), ())
    table = (("v", "loss"), ("a", "1"))
    return Findings((figure,), (table,), (runs.effect("b", "a", "loss").said(),), "Not much.")


def silent(line: str) -> None:
    """Nobody listens."""


def test_a_study_that_was_cut_goes_on(tmp_path: Path) -> None:
    first, second, third = Bench(cut=3), Bench(), Bench()
    with pytest.raises(KeyboardInterrupt):
        study(first).runs(tmp_path, 3, silent, "abc")
    study(second).runs(tmp_path, 3, silent, "abc")
    assert [*first.asked, *second.asked] == [(v, s) for s in range(3) for v in ("a", "b")]
    runs = study(third).runs(tmp_path, 3, silent, "abc")
    assert not third.asked
    assert runs.values("b", "loss") == [1.5, 11.501, 21.502]
    assert runs.effect("b", "a", "loss").seen


def test_runs_of_other_settings_are_not_mixed_in(tmp_path: Path) -> None:
    study(Bench(), steps=1).runs(tmp_path, 2, silent, "abc")
    study(Bench(), steps=1).runs(tmp_path, 2, silent, "abc")
    with pytest.raises(GemmaryError, match="a run of other settings: remove"):
        study(Bench(), steps=2).runs(tmp_path, 2, silent, "abc")


def test_a_damaged_run_is_named(tmp_path: Path) -> None:
    study(Bench()).runs(tmp_path, 2, silent, "abc")
    path = next((tmp_path / "runs").iterdir())
    whole = json.loads(path.read_text(encoding="utf-8"))
    for damaged in ("{", "[]", json.dumps({n: v for n, v in whole.items() if n != "points"})):
        path.write_text(damaged, encoding="utf-8")
        with pytest.raises(GemmaryError, match="is no run of a study: remove it"):
            study(Bench()).runs(tmp_path, 2, silent, "abc")


def test_everything_is_written(tmp_path: Path) -> None:
    made = study(Bench(), steps=7)
    page.write(made, made.runs(tmp_path / "work", 3, silent, "abc"), tmp_path / "out", ORIGIN)
    found = json.loads((tmp_path / "out" / "ratio.json").read_text(encoding="utf-8"))
    assert [(r["variant"], r["seed"], r["points"]["loss"]) for r in found["runs"]][-1] == ("b", 2, 21.502)
    assert (found["settings"], found["commit"], found["report"]) == (
        {"steps": 7},
        "abc",
        "The report's words.",
    )
    assert "4.30 with three seeds" in found["rule"]
    text = (tmp_path / "out" / "ratio.md").read_text(encoding="utf-8")
    for words in (
        "+0.501 ± 0.002",
        "The report's words.",
        "Not much.",
        "| a | 1 |",
        "](ratio.svg)",
        "3 seeds",
    ):
        assert words in text
    assert (tmp_path / "out" / "ratio.svg").exists()
    assert "(ratio.md). +0.501" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_names_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(GemmaryError, match="no study 'nope'; there are ratio, "):
        catalogue.find("nope", tmp_path, tmp_path)
    with pytest.raises(GemmaryError, match="no folder books/"):
        catalogue.find("ratio", tmp_path, tmp_path)


@pytest.mark.parametrize(
    "name",
    ["rope", *(pytest.param(name, marks=pytest.mark.long) for name in catalogue.TITLES if name != "rope")],
)
def test_every_study_runs(name: str, tmp_path: Path) -> None:
    data = library.write(tmp_path / "data")
    made = catalogue.find(name, data, tmp_path / "work", quick=True)
    try:
        runs = made.runs(tmp_path / "work" / name, 2, silent, "abc")
    except FontError as fault:
        pytest.skip(str(fault))
    found = page.write(made, runs, tmp_path, ORIGIN)
    assert len(runs.all) == len(made.variants) * (1 if made.exact else 2)
    assert all(len(set(map(len, table))) == 1 for table in found.tables)
    assert all(0 <= value < 1e5 for run in runs.all for value in run.points.values())
    json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8"))
