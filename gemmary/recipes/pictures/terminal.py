"""Short command lines in a terminal."""

from __future__ import annotations

import random

from .document import Document, shape
from .drawn import Plan
from .page import Row
from .wording import TABLE, tongue, wrapped

WIDEST = 13  # characters a line, prompt apart
SEEN_PROMPTS, HELD_PROMPTS = ("$ ", "$ ", "# "), ("> ", "% ")


def plan(held: bool, dice: random.Random) -> Plan:
    """A prompt and a command, in one line or two."""
    command = typed(dice)
    prompt = dice.choice(HELD_PROMPTS if held else SEEN_PROMPTS)
    first, *rest = wrapped(command, WIDEST)
    rows = [Row((prompt + first,)), *(Row(("  " + line,)) for line in rest)]
    document = Document(
        rows,
        {("command",): command},
        f'A terminal with the command "{command}".',
        tongue(dice),
        True,
        0.16,
        shape(dice),
    )
    return document.plan(held, dice)


def typed(dice: random.Random) -> str:
    """A command with its arguments."""
    words = {name: dice.choice(found) for name, found in TABLE["command words"].items()}
    text: str = dice.choice(TABLE["commands"])
    return text.format(n=dice.randint(1, 999), **words)
