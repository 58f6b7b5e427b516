"""What the trained helper is asked before it is let out, beside a plain search over the same pages."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import phrasing
from .manual import Example, Page

Answer = Callable[[str], str]  # question -> answer
Question = tuple[str, str]  # what is asked, the command that is right
FENCED = re.compile(r"```sh\n(.*?)\n```", re.DOTALL)
HAND_WRITTEN = Path(__file__).parent / "questions.json"


@dataclass(frozen=True)
class Score:
    """Shares of questions: `exact` for the very command, `tool` for the right program at least."""

    exact: float
    tool: float
    questions: int


def rephrased() -> list[Question]:
    """Questions about trained examples, worded by hand as nothing in training is."""
    return [(asked, command) for asked, command in json.loads(HAND_WRITTEN.read_text(encoding="utf-8"))]


def generated(pairs: Sequence[tuple[Page, Example]], count: int, dice: random.Random) -> list[Question]:
    """Questions of the kind that training has, tool named, with wordings of their own."""
    chosen = dice.sample(pairs, min(count, len(pairs)))
    return [
        (phrasing.question("ask_with", dice, example.task, tool=page.tool), example.command)
        for page, example in chosen
    ]


def command_in(answer: str) -> str:
    """The first command of an answer; empty where there is none."""
    found = FENCED.search(answer)
    return found[1] if found else ""


def program(command: str) -> str:
    """The program that a command line begins with, sudo aside."""
    names = [word for word in command.split() if word != "sudo"]
    return names[0] if names else ""


def examine(answer: Answer, questions: Iterable[Question]) -> Score:
    """Ask every question. `answer` returns a command line alone or an answer that holds one."""
    given = [(answer(asked), command) for asked, command in questions]
    commands = [(command_in(text) or text, right) for text, right in given]
    exact = sum(command == right for command, right in commands)
    tool = sum(program(command) == program(right) for command, right in commands)
    return Score(exact / len(given), tool / len(given), len(given))
