"""Tasks that people have every day, in their words: the tldr pages word many of them as experts do."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Everyday:
    """A task, the command for it, and how people ask for it (the end of "How do I ...")."""

    task: str
    command: str
    asked: tuple[str, ...]


def everyday_tasks() -> list[Everyday]:
    """The tasks of everyday.json."""
    text = (Path(__file__).parent / "everyday.json").read_text(encoding="utf-8")
    return [Everyday(r["task"], r["command"], tuple(r["asked"])) for r in json.loads(text)]
