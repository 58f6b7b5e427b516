"""Translated pages with the English page's commands, and conversations about them.

A translation names its placeholders in its own language ({{ruta/al/archivo}}); the command is the same. So
a translated task goes with the English page's command: what is learnt in one language serves in all.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .manual import Example, Page, examples, plain_command, records, sentence
from .phrasing import as_phrase, typed

Exchange = tuple[str, str]
WORDS: dict[str, Any] = json.loads((Path(__file__).parent / "languages.json").read_text(encoding="utf-8"))
LANGUAGES = tuple(WORDS)
FAMILIAR_SHARE = 0.6  # of conversations, where a language has pages of familiar commands


def skeleton(command: str) -> str:
    """A command line of a page without what its placeholders say; {{[-o|--option]}} is no word and stays."""
    return re.sub(r"\{\{(?!\[-).*?\}\}(?!\})", "{}", command)


def read_translations(folder: Path, language: str, english: Sequence[Page]) -> list[Page]:
    """Pages of `folder` in `language` whose English page is among `english`.

    An example whose command is not in the English page (one of both is out of date) is left out.
    """
    pages = {page.id: page for page in english}
    originals = {r["id"]: r["text"] for r in records(folder / "tldr.en.jsonl") if r["id"] in pages}
    found = (
        _translated(record["text"], originals[record["id"]], pages[record["id"]])
        for record in records(folder / f"tldr.{language}.jsonl")
        if record["id"] in pages
    )
    return [page for page in found if page is not None]


def _translated(text: str, original: str, page: Page) -> Page | None:
    usable = {example.command for example in page.examples}
    commands = [raw for _, raw in examples(original.split("\n"))]
    pairs = (
        (sentence(task), _same(raw, place, commands))
        for place, (task, raw) in enumerate(examples(text.split("\n")))
    )
    kept = tuple(Example(task, command) for task, command in pairs if task and command in usable)
    notes = [line[2:] for line in text.split("\n") if line.startswith("> ") and "<http" not in line]
    if not kept or not notes:
        return None
    return Page(page.id, page.tool, sentence(notes[0]), kept, page.fame)


def _same(raw: str, place: int, commands: Sequence[str]) -> str:
    """The English command of a translated one; "" where there is none, or where two could be meant."""
    alike = [n for n, other in enumerate(commands) if skeleton(other) == skeleton(raw)]
    if place in alike:
        return plain_command(commands[place])
    return plain_command(commands[alike[0]]) if len(alike) == 1 else ""


class Abroad:
    """Writes conversations in the languages of `pages` (trained pages by language), each as often."""

    def __init__(
        self, pages: Mapping[str, Sequence[Page]], familiar: frozenset[str], dice: random.Random
    ) -> None:
        self.dice = dice
        self.pairs: dict[str, tuple[list[tuple[Page, Example]], list[tuple[Page, Example]]]] = {}
        for language, read in pages.items():
            pairs = [(page, example) for page in read for example in page.examples]
            known = [pair for pair in pairs if pair[0].tool in familiar and not pair[0].platform]
            if pairs:
                self.pairs[language] = (known, pairs)

    def conversation(self) -> list[Exchange]:
        """One exchange, sometimes with a follow-up; now and then small talk."""
        language = self.dice.choice(list(self.pairs))
        words = WORDS[language]
        if self.dice.random() < 0.04:
            asked, answer = self.dice.choice(words["talk"])
            return [(self.dice.choice(asked), answer)]
        known, pairs = self.pairs[language]
        page, example = self.dice.choice(known if known and self.dice.random() < FAMILIAR_SHARE else pairs)
        if self.dice.random() < 0.08:
            return [(self._worded(words["what"], "", page.tool), described(page, words))]
        nameless = self.dice.random() < (0.3 if page.tool in {p.tool for p, _ in known} else 0.1)
        kind = words["ask"] if nameless and len(example.task.split()) >= 3 else words["ask_with"]
        exchanges = [(self._worded(kind, example.task, page.tool), answered(example))]
        others = [other for other in page.examples if other is not example]
        if others and self.dice.random() < 0.1:
            other = self.dice.choice(others)
            exchanges.append((self._worded(words["follow"], other.task, page.tool), answered(other)))
        return exchanges

    def questions(self, count: int) -> list[tuple[str, str]]:
        """Questions that name the tool, and the commands that are right: half of them about familiar ones."""
        found = []
        for number in range(count if self.pairs else 0):
            language = self.dice.choice(list(self.pairs))
            known, pairs = self.pairs[language]
            page, example = self.dice.choice(known if known and number % 2 else pairs)
            found.append(
                (self._worded(WORDS[language]["ask_with"], example.task, page.tool), example.command)
            )
        return found

    def _worded(self, templates: list[str], task: str, tool: str) -> str:
        phrase = as_phrase(task)
        template = self.dice.choice(templates)
        return typed(template.format(task=phrase, Task=phrase[:1].upper() + phrase[1:], tool=tool), self.dice)


def answered(example: Example) -> str:
    """The form of every answer that is one command, in every language."""
    return f"{example.task}:\n\n```sh\n{example.command}\n```"


def described(page: Page, words: dict[str, Any]) -> str:
    """What a command is, with its first example."""
    return f"`{page.tool}`: {as_phrase(page.summary)}. {words['example']} {answered(page.examples[0])}"
