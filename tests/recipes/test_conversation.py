"""Conversations teach what the pages say, and only that."""

from __future__ import annotations

import random
from collections import Counter

from gemmary.recipes.conversation import FAMILIAR, OTHER, Writer, answer, familiar_tools
from gemmary.recipes.everyday import everyday_tasks
from gemmary.recipes.exam import FENCED, rephrased
from gemmary.recipes.manual import Page, parse
from tests.recipes import toydata


def pages() -> list[Page]:
    made = [
        parse(f"common/{tool}", toydata.page(tool, thing), fame=5 if tool in toydata.KNOWN else 1)
        for tool, thing in {**toydata.KNOWN, **toydata.OBSCURE}.items()
    ]
    return [page for page in made if page is not None]


def test_every_command_of_an_answer_is_a_known_one() -> None:
    writer = Writer(pages(), random.Random(0))
    known = {e.command for page in pages() for e in page.examples} | {t.command for t in everyday_tasks()}
    answers = [said for _ in range(500) for _, said in writer.conversation()]
    commands = [command for said in answers for command in FENCED.findall(said)]
    assert len(commands) > 300 and set(commands) <= known


def test_familiar_commands_come_more_often() -> None:
    writer = Writer(pages(), random.Random(0))
    assert {page.tool for page, _ in writer.classes[FAMILIAR]} == {"grep", "tar"}
    assert {page.tool for page, _ in writer.classes[OTHER]} == set(toydata.OBSCURE)
    seen: Counter[str] = Counter()
    for _ in range(1500):
        seen.update(said.split("```sh\n")[1].split()[0] for _, said in writer.conversation() if "```" in said)
    assert min(seen["grep"], seen["tar"]) > 2 * max(seen[tool] for tool in toydata.OBSCURE)


def test_a_task_that_several_pages_share_names_its_tool() -> None:
    shared = [
        Page(f"common/{tool}", tool, "Do things", pages()[0].examples[:1], fame)
        for tool, fame in (("aaa", 9), ("bbb", 4))
    ]
    writer = Writer(shared, random.Random(0))
    nameless = [writer._ask(shared[1], shared[1].examples[0], FAMILIAR) for _ in range(200)]
    assert sum("bbb" in text for text in nameless) >= 190


def test_questions_of_the_exam_are_never_trained_on() -> None:
    asked = {wording.lower() for task in everyday_tasks() for wording in task.asked}
    assert not asked & {question.lower() for question, _ in rephrased()}


def test_familiar_names_are_read_whole() -> None:
    names = familiar_tools()
    assert {"tar", "git commit", "docker container run", "ls"} <= names
    assert not [name for name in names if "," in name or name != name.strip()]


def test_answers_have_one_form() -> None:
    assert answer("List files", "ls") == "List files:\n\n```sh\nls\n```"
