"""The exam counts what it says it counts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gemmary.recipes.everyday import everyday_tasks
from gemmary.recipes.exam import Score, command_in, examine, program, rephrased
from gemmary.recipes.manual import read_pages

DATA = Path(os.environ.get("GEMMARY_DATA", Path(__file__).parents[3] / "shared" / "data"))


def test_exact_commands_and_right_programs() -> None:
    given = {
        "a": "Do it:\n\n```sh\nsudo ls -l\n```",
        "b": "```sh\nls -a\n```",
        "c": "I do not know.",
        "d": "ls",
    }
    questions = [("a", "sudo ls -l"), ("b", "ls -l"), ("c", "ls"), ("d", "ls")]
    assert examine(given.__getitem__, questions) == Score(exact=0.5, tool=0.75, questions=4)


@pytest.mark.parametrize(
    ("text", "command"), [("x\n```sh\na b\n```\n```sh\nc\n```", "a b"), ("none", ""), ("```sh\n", "")]
)
def test_first_command_of_an_answer(text: str, command: str) -> None:
    assert command_in(text) == command


def test_program_of_a_command() -> None:
    assert [program(c) for c in ("sudo apt update", "ls", "")] == ["apt", "ls", ""]


def test_every_hand_written_question_has_an_answer_in_the_data() -> None:
    if not (DATA / "multilingual").exists():
        pytest.skip(f"needs the data folder at {DATA} (or GEMMARY_DATA)")
    pages = read_pages(DATA / "multilingual")
    known = {e.command for page in pages for e in page.examples} | {t.command for t in everyday_tasks()}
    assert len(rephrased()) >= 100
    assert [question for question, command in rephrased() if command not in known] == []
