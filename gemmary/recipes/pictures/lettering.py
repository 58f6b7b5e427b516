"""Words, numbers, prices, times and dates in big type: what reading is learnt from first."""

from __future__ import annotations

import random

from . import page
from .drawn import Ask, Plan
from .page import Row
from .wording import WORDS, answered, date, price, question, time


def word(held: bool, dice: random.Random) -> Plan:
    """One word, or two."""
    text = dice.choice(WORDS["en"]) if dice.random() < 0.5 else dice.choice(WORDS[dice.choice(list(WORDS))])
    text = dice.choice((str.upper, str.capitalize, str))(text)
    return big(text, "word", held, dice)


def number(held: bool, dice: random.Random) -> Plan:
    """A number, a price, a time, a date or a code."""
    sort = dice.choices(("number", "price", "time", "date"), (5, 3, 2, 1))[0]
    text = NUMBERS[sort](dice)
    return big(text, sort, held, dice)


def whole(dice: random.Random) -> str:
    return str(dice.randrange(10 ** dice.randint(1, 4)))


NUMBERS = {"number": whole, "price": price, "time": time, "date": date}


def big(text: str, sort: str, held: bool, dice: random.Random) -> Plan:
    rows = [Row((text,))]
    asks = [Ask((sort,), question(sort, dice), text)]
    return Plan(f'The {sort} "{text}".', tuple(asks), answered({(sort,): text}), lambda d: page.sheet(rows, (224, 224), held, d, largest=0.4))
