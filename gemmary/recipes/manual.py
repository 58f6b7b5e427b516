"""The pages of tldr-pages (CC BY 4.0) as data: what a command does and its examples, cleaned for reading."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PLATFORMS = {"common": "", "linux": "", "osx": "macOS", "windows": "Windows", "android": "Android"}
EMPTY = "\0"
LONGEST_COMMAND, LONGEST_SENTENCE = 140, 130  # characters; longer ones are beyond a small model


@dataclass(frozen=True)
class Example:
    """One use of a command: an imperative sentence without full stop, and the line to type."""

    task: str
    command: str


@dataclass(frozen=True)
class Page:
    """One command. `fame` counts the other languages that translated the page: a measure of use."""

    id: str
    tool: str
    summary: str
    examples: tuple[Example, ...]
    fame: int = 0

    @property
    def platform(self) -> str:
        """The system that the page is for; empty for Linux and for every system."""
        return PLATFORMS[self.id.split("/")[0]]


def read_pages(folder: Path) -> list[Page]:
    """English pages of `folder` (tldr.<language>.jsonl), sorted by id.

    Aliases and rare systems are left out, and general pages where Linux has its own.
    """
    english = records(folder / "tldr.en.jsonl")
    fame = Counter(record["id"] for path in folder.glob("tldr.*.jsonl") for record in records(path))
    pages = [parse(record["id"], record["text"], fame[record["id"]] - 1) for record in english]
    found = {page.id: page for page in pages if page is not None}
    special = {id.removeprefix("linux/") for id in found if id.startswith("linux/")}
    return [found[id] for id in sorted(found) if id.removeprefix("common/") not in special]


def records(path: Path) -> list[dict[str, str]]:
    """The pages of a file: "id" and "text"."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def parse(id: str, text: str, fame: int = 0) -> Page | None:
    """One page of Markdown; None where it is an alias, of a rare system, or has nothing usable."""
    if id.split("/")[0] not in PLATFORMS or "alias of" in text:
        return None
    title, *lines = text.strip().split("\n")
    notes = [line[2:] for line in lines if line.startswith("> ")]
    summary = next((note for note in notes if not note.startswith(("More information", "See also"))), "")
    kept = tuple(_usable(lines))
    if not kept or not summary:
        return None
    return Page(id, title.removeprefix("# ").strip(), sentence(summary), kept, fame)


def _usable(lines: Iterable[str]) -> Iterable[Example]:
    for task, raw in examples(lines):
        example = Example(sentence(task), plain_command(raw))
        short = len(example.command) <= LONGEST_COMMAND and len(example.task) <= LONGEST_SENTENCE
        if example.task and example.command and short and not example.command.startswith("<"):
            yield example


def examples(lines: Iterable[str]) -> Iterable[tuple[str, str]]:
    """The examples of a page as they stand: a task, and its command line with {{placeholders}}."""
    task = ""
    for line in lines:
        if line.startswith("- "):
            task = line[2:]
        elif line.startswith("`") and line.endswith("`") and task:
            yield task, line[1:-1]
            task = ""


def sentence(text: str) -> str:
    """Mnemonic brackets ("[c]reate"), code marks, remarks in brackets and the full stop taken away."""
    text = re.sub(r"(?<=[^\[\]])\[([A-Z])\](?=[a-z])", lambda match: match[1].lower(), text.strip())
    text = re.sub(r"\[([^\[\]]{1,12})\]", r"\1", text).replace("`", "")
    text = re.sub(r"<https?://[^>]*>", "", text)
    while "(" in text and (shorter := re.sub(r"\s*\([^()]*\)", "", text)) != text:
        text = shorter
    text = re.sub(r"\s+", " ", text).strip(" .:\u00a0\u202f").split(". ")[0]
    return text[:1].upper() + text[1:]


def plain_command(text: str) -> str:
    """A command line with each {{placeholder}} as a short name and each choice made; "" if one is empty."""
    text = re.sub(r"\{\{(.*?)\}\}(?!\})", lambda match: _placeholder(match[1]) or EMPTY, text)
    if EMPTY in text:
        return ""
    return re.sub(r" +", " ", text.replace(r"\{\{", "{{").replace(r"\}\}", "}}")).strip()


def _placeholder(text: str) -> str:
    """ "[-a|--all]" -> "-a"; "start|stop" -> "start"; "path/to/file1 path/to/file2 ..." -> "file1 file2"."""
    if text.startswith("[") and text.endswith("]") and "|" in text:
        return text[1:-1].split("|")[0]
    text = re.sub(r"\[(?:(\w)|[^\[\]]*)\]", r"\1", text)
    text = re.sub(r"^(-?\d+)\.\.-?\d+$", r"\1", text.split("|")[0])
    text += "}" * (text.count("{") - text.count("}"))
    text = text.replace(",...", "").removesuffix(" ...").replace("...", "")
    text = re.sub(r"(?<!\w)/path/to/", "", text)
    return re.sub(r"\b(?:path/to|path\\to|path)[/\\](?=\w)", "", text).strip()
