"""Words, numbers, prices, times, dates and codes in big type: what reading is learnt from first."""

from __future__ import annotations

import random

from .document import Document, shape
from .drawn import Plan
from .nouns import LANGUAGES
from .page import Row
from .wording import WORDS, code, currency, date, made_up, price, time, tongue

LARGEST = 0.42  # of the page's height, for capitals
SCRIPTS, INVENTED = 0.08, 0.15  # shares of words in Greek or Cyrillic, and of words that are none
CASES = (str.upper, str.upper, str.capitalize, str)


def word(held: bool, dice: random.Random) -> Plan:
    """One word, or two below each other."""
    drawn = dice.random()
    language = dice.choice(("el", "ru")) if drawn < SCRIPTS else tongue(dice)
    words = WORDS[language]
    if drawn > 1 - INVENTED:
        texts = [made_up(dice)]
    else:
        texts = dice.sample(words, 2 if dice.random() < 0.2 else 1)
    case = dice.choice(CASES if language != "el" else CASES[2:])  # Greek capitals drop their accents
    lines = [case(text) for text in texts]
    text = " ".join(lines)
    sort = "word" if len(lines) == 1 else "words"
    caption = f'The {sort} "{text}".'
    rows = [Row((line,)) for line in lines]
    asked = language if language in LANGUAGES else "en"
    document = Document(rows, {(sort,): text}, caption, asked, largest=LARGEST, shape=shape(dice))
    return document.plan(held, dice)


def number(held: bool, dice: random.Random) -> Plan:
    """A number, a price, a time, a date or a code."""
    language = tongue(dice)
    sort = dice.choices(("number", "price", "time", "date", "code"), (8, 5, 3, 2, 4))[0]
    text = value(sort, language, dice)
    document = Document(
        [Row((text,))], {(sort,): text}, f"The {sort} {text}.", language, largest=LARGEST, shape=shape(dice)
    )
    return document.plan(held, dice)


def value(sort: str, language: str, dice: random.Random) -> str:
    """What is written."""
    if sort == "number":
        digits = dice.choice((1, 2, 2, 3, 3, 4, 5))
        return str(dice.randrange(10 ** (digits - 1), 10**digits))
    if sort == "price":
        return price(
            dice.randrange(50, dice.choice((1000, 10_000, 50_000))), language, currency(language, dice)
        )
    return {"time": lambda: time(dice, 1), "date": lambda: date(dice), "code": lambda: code(dice)}[sort]()
