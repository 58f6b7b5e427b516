"""How people ask: many wordings of one task, made by rule from a seeded generator."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

WORDS: dict[str, Any] = json.loads((Path(__file__).parent / "phrasing.json").read_text(encoding="utf-8"))
# Words that people swap: each pattern is replaced by one of its alternatives, now and then.
SWAPS = tuple((re.compile(pattern), alternatives) for pattern, alternatives in WORDS["swaps"])
DETAIL = re.compile(r",? (?:and (?:write|save|print|output|display)|to|using|without|with|by) .*$")


def as_phrase(sentence: str) -> str:
    """A sentence as the end of another: "List files" -> "list files"; names like "JSON" keep their form."""
    first, _, rest = sentence.partition(" ")
    plain = first[1:].islower() or len(first) == 1
    return f"{first.lower() if plain else first} {rest}".strip()


def reworded(task: str, dice: random.Random, share: float = 0.5) -> str:
    """`task` with some words swapped, each with probability `share`, and sometimes a detail left out."""
    for pattern, alternatives in SWAPS:
        if dice.random() < share:
            task = pattern.sub(dice.choice(alternatives), task, count=1)
    if dice.random() < 0.2:
        task = DETAIL.sub("", task)
    if dice.random() < 0.3:
        task = re.sub(r"\b(?:the|an?) ", "", task)
    return re.sub(r"\s+", " ", task).strip(" ,")


def typed(text: str, dice: random.Random) -> str:
    """As people type: now and then no capitals, no mark at the end, or two letters swapped."""
    if dice.random() < 0.25:
        text = text.rstrip("?.!")
    if dice.random() < 0.15:
        text = text[:1].lower() + text[1:]
    if dice.random() < 0.05 and len(text) > 8:
        at = dice.randrange(1, len(text) - 2)
        text = text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    return text


def question(kind: str, dice: random.Random, task: str = "", **names: str) -> str:
    """One wording of a kind in phrasing.json. `task` is in the imperative; `names` fill the template."""
    phrase = as_phrase(task)
    if dice.random() < 0.65:
        phrase = reworded(phrase, dice) or phrase
    text: str = dice.choice(WORDS[kind]).format(task=phrase, Task=phrase[:1].upper() + phrase[1:], **names)
    return typed(text, dice)
