"""Tickets (where to, when, gate, seat) and price labels."""

from __future__ import annotations

import random

from .document import Document, shape
from .drawn import Plan, Topic
from .page import Row
from .wording import CITIES, ITEMS, LETTERS, currency, label, price, time, tongue


def plan(held: bool, dice: random.Random) -> Plan:
    """A ticket, or a label."""
    made = dice.choices((ticket, tag), (3, 1))[0](tongue(dice), held, dice)
    return made.plan(held, dice)


def ticket(language: str, held: bool, dice: random.Random) -> Document:
    """A destination above or between two or three fields; held out, it stands below them."""
    city = dice.choice((str.upper, str))(dice.choice(CITIES))
    fields = {
        "departs": time(dice),
        "gate": gate(dice),
        "seat": f"{dice.randint(1, 39)}{dice.choice('ABCDEF')}",
    }
    kept = dice.sample(list(fields), dice.choice((2, 3)))
    lines = [Row((label(name, language), fields[name])) for name in kept]
    title = Row((city,), 1.25, True)
    above = len(lines) if held else dice.choice((0, 0, *range(1, len(lines))))
    rows = [*lines[:above], title._replace(rule=above > 0), *lines[above:]]
    facts: dict[Topic, str] = {("to",): city}
    facts.update({(name,): fields[name] for name in kept})
    told = ", ".join(f"{name if name != 'departs' else 'time'} {fields[name]}" for name in kept)
    return Document(rows, facts, f"A ticket to {city}: {told}.", language)


def gate(dice: random.Random) -> str:
    return f"{dice.choice(LETTERS[:8])}{dice.randint(1, 40)}"


def tag(language: str, held: bool, dice: random.Random) -> Document:
    """What something costs, in big type: below what it is, or beside; held out, above."""
    item, cost = (
        dice.choice(ITEMS[language]),
        price(dice.randrange(50, 5000), language, currency(language, dice)),
    )
    name = item.upper() if dice.random() < 0.5 else item.capitalize()
    rows = [Row((name,)), Row((cost,), 1.5, True)]
    if held:
        rows = rows[::-1]
    elif dice.random() < 0.3:
        rows = [Row((name, cost), 1.0, True)]
    facts: dict[Topic, str] = {("price",): cost, ("goods",): name}
    return Document(rows, facts, f"A price label: {name} {cost}.", language, largest=0.25, shape=shape(dice))
