"""What documents say and what is asked about them, in six languages: words, prices, times, questions."""

from __future__ import annotations

import json
import random
import textwrap
from pathlib import Path
from typing import Any

from .drawn import Topic
from .nouns import LANGUAGES

TABLE: dict[str, Any] = json.loads((Path(__file__).parent / "wording.json").read_text(encoding="utf-8"))
WORDS: dict[str, list[str]] = {tongue: text.split() for tongue, text in TABLE["words"].items()}
ITEMS: dict[str, list[str]] = {tongue: text.split() for tongue, text in TABLE["items"].items()}
DAYS: dict[str, list[str]] = {tongue: text.split() for tongue, text in TABLE["days"].items()}
NAMES, CITIES, SHOPS = (TABLE[what].split() for what in ("names", "cities", "shops"))
SYLLABLES = TABLE["syllables"].split()
LETTERS = "ABCDEFGHJKLMNPRSTUVWXYZ"  # no I, O and Q, which are taken for digits
ENGLISH, NATIVE, FOREIGN = 0.55, 0.75, 0.15  # English documents; questions in a document's own language


def tongue(dice: random.Random) -> str:
    """The language of a document."""
    return "en" if dice.random() < ENGLISH else dice.choice(LANGUAGES[1:])


def question(topic: Topic, language: str, dice: random.Random) -> str:
    """A question about a topic of a document in some language: mostly in that, else in English."""
    if language == "en":
        asked = dice.choice(LANGUAGES[1:]) if dice.random() < FOREIGN else "en"
    else:
        asked = language if dice.random() < NATIVE else "en"
    wording: str = dice.choice(TABLE["asked"][topic[0]][asked])
    return wording.format(*topic[1:])


def label(name: str, language: str) -> str:
    """What stands before a value: "Total", "Summe"."""
    return str((TABLE["labels"] | TABLE["columns"])[name][LANGUAGES.index(language)])


def wrapped(text: str, width: int) -> list[str]:
    """Text in lines of at most `width` characters."""
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)


def price(cents: int, language: str, sign: str = "") -> str:
    """12.40 in English, 12,40 elsewhere; sign is "$" before or "€" behind it, or nothing."""
    if language == "en":
        return f"{sign}{cents // 100}.{cents % 100:02}"
    return f"{cents // 100},{cents % 100:02}{' ' * bool(sign)}{sign}"


def currency(language: str, dice: random.Random) -> str:
    return dice.choice("$$£€") if language == "en" else "€"


def time(dice: random.Random, step: int = 5) -> str:
    """A time of day, on a 24-hour clock."""
    return f"{dice.randrange(24)}:{dice.randrange(0, 60, step):02}"


def date(dice: random.Random) -> str:
    """A date, written in one of three ways."""
    day, month, year = dice.randint(1, 28), dice.randint(1, 12), dice.randint(1995, 2035)
    return dice.choice(
        (f"{day:02}.{month:02}.{year}", f"{year}-{month:02}-{day:02}", f"{day}/{month}/{year}")
    )


def code(dice: random.Random) -> str:
    """Such as K7-42, B19, 4TX9."""
    pattern = dice.choice(("a0-00", "a00", "0aa0", "aa-00", "aaa 00", "a0a0"))
    return "".join(_sign(each, dice) for each in pattern)


def _sign(each: str, dice: random.Random) -> str:
    if each == "a":
        return dice.choice(LETTERS)
    return dice.choice("0123456789") if each == "0" else each


def made_up(dice: random.Random) -> str:
    """A word that means nothing, so that it has to be read letter by letter."""
    return "".join(dice.choice(SYLLABLES) for _ in range(dice.choice((2, 2, 3))))


def shop(dice: random.Random) -> str:
    return f"{dice.choice(SHOPS)} {dice.choice(NAMES)}"
