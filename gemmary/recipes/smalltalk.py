"""What the helper says when nobody asks for a command: who it is, what it can do, and what it cannot."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

WORDS: dict[str, Any] = json.loads((Path(__file__).parent / "smalltalk.json").read_text(encoding="utf-8"))
GREETING, THANKS = WORDS["talk"][0], WORDS["talk"][3]
UNKNOWN_TOOL = (
    "What is {name}?",
    "What does {name} do?",
    "{name}?",
    "How do I use {name}?",
    "Explain {name}.",
)


def talk(dice: random.Random) -> tuple[str, str]:
    """One exchange that is not about a command: off topic, no such tool, or talk about itself."""
    kind = dice.random()
    if kind < 0.4:
        return _off_topic(dice), WORDS["cannot"]
    if kind < 0.5:
        name = "".join(dice.choice(WORDS["syllables"]) for _ in range(dice.choice((2, 2, 3))))
        return dice.choice(UNKNOWN_TOOL).format(name=name), WORDS["unknown"].format(name=name)
    return said(dice.choice(WORDS["talk"]), dice)


def said(topic: dict[str, Any], dice: random.Random) -> tuple[str, str]:
    """One wording of a topic, and its answer."""
    return dice.choice(topic["asked"]), topic["answer"]


def _off_topic(dice: random.Random) -> str:
    fill = {name: dice.choice(words) for name, words in WORDS["fill"].items()}
    a, b, year = dice.randrange(2, 999), dice.randrange(2, 999), dice.randrange(1900, 2026)
    text: str = dice.choice(WORDS["off_topic"])
    return text.format(**fill, a=a, b=b, year=year)
