"""The lines of a run's log, a step each: what a kill, a full disk or a fault of the disk left of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Record = dict[str, Any]
NUMBERS = ("loss", "tokens", "norm", "rate", "seconds")


@dataclass(frozen=True)
class Log:
    """Whole lines and what they say, steps rising. `unread`: lines that are no record of a step."""

    lines: tuple[str, ...] = ()
    records: tuple[Record, ...] = ()
    unread: int = 0

    def until(self, step: int) -> Log:
        """What is known up to and with `step`."""
        kept = sum(record["step"] <= step for record in self.records)
        return Log(self.lines[:kept], self.records[:kept], self.unread)


def read(path: Path) -> Log:
    """The log at `path`, empty where there is none; where a run went back, what it did afterwards counts."""
    lines: list[str] = []
    records: list[Record] = []
    unread = 0
    for line in _lines(path):
        record = _record(line)
        if record is None:
            unread += 1
            continue
        while records and records[-1]["step"] >= record["step"]:
            lines.pop(), records.pop()
        lines.append(line)
        records.append(record)
    return Log(tuple(lines), tuple(records), unread)


def objects(path: Path) -> list[Record]:
    """The JSON objects in a file of one a line; what is none is passed over."""
    return [value for line in _lines(path) if (value := _object(line)) is not None]


def _lines(path: Path) -> list[str]:
    if not path.exists():
        return []
    return [line for line in path.read_bytes().decode("utf-8", "replace").splitlines() if line.strip()]


def _record(line: str) -> Record | None:
    """A step: whole "step", numbers "loss" and "tokens"; the others are numbers where they are present."""
    value = _object(line)
    if value is None or not isinstance(value.get("step"), int):
        return None
    known = {"loss": None, "tokens": None, "norm": 0, "rate": 0, "seconds": 0} | value
    return value if all(_is_number(known[name]) for name in ("step", *NUMBERS)) else None


def _object(line: str) -> Record | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _is_number(value: object) -> bool:
    """Also NaN and infinity, which a loss may be; not what is beyond any number of a machine."""
    if isinstance(value, bool):
        return False
    return isinstance(value, float) or (isinstance(value, int) and abs(value) < 1 << 63)
