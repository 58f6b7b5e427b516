"""docs/RELIABILITY.md names tests that are there, counts that they have, and says what is not proven."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in (ROOT / "docs/RELIABILITY.md").read_text("utf-8").splitlines()
    if re.match(r"\| \d", line)
]
NONE, LONG = "–", "mark.long"


@cache
def tree(path: str) -> ast.Module:
    return ast.parse((ROOT / path).read_text("utf-8"))


@cache
def found_in(path: str) -> dict[str, list[str]]:
    """Decorators of each test of a file."""
    found = (node for node in tree(path).body if isinstance(node, ast.FunctionDef))
    return {one.name: [ast.unparse(d) for d in one.decorator_list] for one in found}


@cache
def numbers(path: str) -> frozenset[int]:
    """Numbers that a test file writes, and how much is in its lists."""
    nodes = list(ast.walk(tree(path)))
    written = {node.value for node in nodes if isinstance(node, ast.Constant) and type(node.value) is int}
    listed = {len(node.elts) for node in nodes if isinstance(node, ast.List | ast.Tuple)}
    return frozenset(written | listed | {len(node.keys) for node in nodes if isinstance(node, ast.Dict)})


def named(proof: str) -> list[tuple[str, str]]:
    return re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", proof)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_is_proven_or_says_that_it_is_not(row: list[str]) -> None:
    _, promise, proof, short, long, less = row
    found = named(proof)
    assert len(found) == proof.count("`") // 2 and promise
    assert [f"{path}::{name}" for path, name in found if name not in found_in(path)] == []
    assert found or re.search("not (built|proven)", less, re.IGNORECASE)
    decorators = [found_in(path)[name] for path, name in found]
    assert (short == NONE) == all(f"pytest.{LONG}" in lines for lines in decorators)
    assert (long == NONE) <= all(LONG not in line for lines in decorators for line in lines)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_counts_are_in_the_tests(row: list[str]) -> None:
    """Those of ten and more that are not said to be about so many."""
    known = frozenset[int]().union(*(numbers(path) for path, _ in named(row[2])))
    said = re.findall(r"(?<![\d.,])(?<!about )\d[\d,]+(?![\d.]*\.)", f"{row[3]} / {row[4]}")
    counts = {int(number.replace(",", "")) for number in said}
    assert {count for count in counts if count >= 10} - known == set()


def test_every_row_is_there() -> None:
    assert [row[0] for row in ROWS] == [*map(str, range(1, 45)), "45–49", *map(str, range(50, 64))]
