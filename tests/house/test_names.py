"""Files are named after what they hold, and are short enough to be read."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMELESS = {"base", "common", "helper", "helpers", "misc", "util", "utils"}
LONGEST = 600  # lines; aim at 60-250, think again at 400


def sources() -> list[Path]:
    return [path for room in ("gemmary", "tests", "bench", "docs") for path in (ROOT / room).rglob("*.py")]


def words(path: Path) -> set[str]:
    """The words in the names of a file and its folders: `a/test_wire_utils.py` -> a, test, wire, utils."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return {word for part in parts for word in part.lower().split("_")}


def test_no_file_is_nameless() -> None:
    assert [str(path) for path in sources() if words(path) & NAMELESS] == []


def test_no_file_is_long() -> None:
    lengths = {str(path): len(path.read_text(encoding="utf-8").splitlines()) for path in sources()}
    assert lengths, "no sources found"
    assert {path: n for path, n in lengths.items() if n > LONGEST} == {}
