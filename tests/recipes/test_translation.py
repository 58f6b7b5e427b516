"""A translated task goes with the English command, and with the right one."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from gemmary.recipes.manual import Page, read_pages
from gemmary.recipes.translation import LANGUAGES, WORDS, Abroad, read_translations

ENGLISH = """# tool

> Does things.
> More information: <https://example.com>.

- List files:

`tool {{[-l|--list]}} {{path/to/directory}}`

- Remove a file:

`tool rm {{path/to/file}}`

- Copy a file:

`tool {{path/to/file}} {{path/to/target}}`

- Move a file:

`tool {{path/to/file}} {{path/to/other}}`
"""
GERMAN = """# tool

> Macht Dinge.
> Weitere Informationen: <https://example.com>.

- Entferne eine Datei:

`tool rm {{pfad/zu/datei}}`

- Liste Dateien auf:

`tool {{[-l|--list]}} {{pfad/zu/ordner}}`

- Kopiere eine Datei:

`tool {{pfad/zu/datei}} {{pfad/zu/ziel}}`

- Etwas von früher:

`tool --old {{pfad/zu/datei}}`
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for language, text in (("en", ENGLISH), ("de", GERMAN)):
        records = [{"id": "common/tool", "text": text}]
        if language == "en":
            records.append({"id": "common/untranslated", "text": ENGLISH.replace("tool", "untranslated")})
        lines = "".join(json.dumps(record) + "\n" for record in records)
        (tmp_path / f"tldr.{language}.jsonl").write_text(lines, encoding="utf-8")
    return tmp_path


@pytest.fixture
def german(folder: Path) -> list[Page]:
    return read_translations(folder, "de", read_pages(folder))


def test_commands_are_the_english_ones(german: list[Page]) -> None:
    (page,) = german
    assert page.summary == "Macht Dinge"
    pairs = {example.task: example.command for example in page.examples}
    assert pairs == {
        "Entferne eine Datei": "tool rm file",  # also in another order
        "Liste Dateien auf": "tool -l directory",
        "Kopiere eine Datei": "tool file target",  # of two alike, the one in its place
    }


def test_pages_that_are_held_out_stay_out(folder: Path) -> None:
    assert read_translations(folder, "de", []) == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_asks_and_answers(german: list[Page], language: str) -> None:
    writer = Abroad({language: german}, frozenset({"tool"}), random.Random(1))
    talks = [writer.conversation() for _ in range(400)]
    asked = {question for talk in talks for question, _ in talk}
    assert len(asked) > 60
    assert not [text for text in asked if "{" in text or "}" in text]
    known = {answer for _, answer in WORDS[language]["talk"]}
    for talk in talks:
        for _, answer in talk:
            assert answer in known or "```sh\ntool " in answer
    assert any(len(talk) == 2 for talk in talks)
