"""What happened to a run and when: begun, gone on, stepped back, ended. Lines of history.jsonl, never cut."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from .log import objects

NAME = "history.jsonl"


class Event(NamedTuple):
    """`when`: ISO 8601, UTC; empty where it is not known."""

    step: int
    what: str
    when: str = ""


def add(folder: Path, step: int, what: str) -> None:
    """Note that `what` happened after `step` steps."""
    event = Event(step, what, datetime.now(UTC).isoformat(timespec="seconds"))
    with (folder / NAME).open("a", encoding="utf-8") as file:
        file.write(json.dumps(event._asdict()) + "\n")


def read(folder: Path) -> list[Event]:
    """All that is legible, in the order in which it happened."""
    found = []
    for line in objects(folder / NAME):
        if isinstance(line.get("step"), int):
            found.append(Event(line["step"], str(line.get("what")), str(line.get("when", ""))))
    return found
