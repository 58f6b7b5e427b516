"""Words to letter."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from .drawn import Topic

WORDS = {"en": "open closed exit coffee tea sale welcome danger stop push pull hotel taxi bank museum".split(), "de": ["Ausgang", "Käse", "geöffnet"]}


def answered(facts: Mapping[Topic, str]) -> Callable[[Topic], str | None]:
    return facts.get


def price(dice: random.Random) -> str:
    return f"${dice.randrange(1, 100)}.{dice.randrange(100):02}"


def time(dice: random.Random) -> str:
    return f"{dice.randrange(24)}:{dice.randrange(60):02}"


def date(dice: random.Random) -> str:
    return f"{dice.randint(1, 28)}.{dice.randint(1, 12)}.{dice.randint(1990, 2030)}"


def question(sort: str, dice: random.Random) -> str:
    return {"word": "What does it say?"}.get(sort, f"What is the {sort}?")
