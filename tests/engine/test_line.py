"""Who waits: bounded, owners in turn, and in front who had begun."""

from __future__ import annotations

import pytest

from gemmary.engine.line import Line, QueueFullError


def drained(line: Line[str]) -> list[str]:
    found = []
    while (thing := line.next()) is not None:
        found.append(thing)
    return found


def test_owners_take_turns_and_the_oldest_of_each_comes_first() -> None:
    line: Line[str] = Line(10)
    for thing in ("a1", "a2", "a3", "b1", "a4", "c1", "b2"):
        line.join(thing, thing[0])
    assert drained(line) == ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]
    assert len(line) == 0 and line.next() is None


def test_who_asks_a_lot_does_not_keep_others_waiting() -> None:
    line: Line[str] = Line(1000)
    for number in range(500):
        line.join(f"many {number}", "many")
    line.join("one", "one")
    assert [line.next(), line.next()] == ["many 0", "one"]


def test_it_is_bounded_and_says_so() -> None:
    line: Line[str] = Line(2)
    line.join("a", "x")
    line.join("b", "x")
    with pytest.raises(QueueFullError, match="2 requests wait already"):
        line.join("c", "y")
    line.rejoin("d")  # who had begun is not turned away
    assert drained(line) == ["d", "a", "b"]


def test_leaving() -> None:
    line: Line[str] = Line(10)
    things = [f"{owner}{number}" for number in range(2) for owner in "ab"]
    for thing in things:
        line.join(thing, thing[0])
    line.rejoin("front")
    line.leave([line.all()[0], things[0], "never there"])
    assert len(line) == 3
    assert drained(line) == ["a1", "b0", "b1"]
