"""Receipts: a shop, two to five things with their prices, the total, at times a date."""

from __future__ import annotations

import random

from .document import Document
from .drawn import Plan, Topic
from .page import Row
from .wording import ITEMS, currency, date, label, price, shop, tongue

SHAPES = ((224, 224), (224, 224), (224, 240), (224, 256))


def plan(held: bool, dice: random.Random) -> Plan:
    """A receipt in one of the orders of `ordered`; held out, its total stands above the things."""
    language = tongue(dice)
    bought = purchase(language, dice.randint(2, 5), dice)
    total = price(sum(bought.values()), language, currency(language, dice))
    name, day = shop(dice), date(dice)
    things = goods(bought, language)
    last = Row((label("total", language), total), bold=True)
    top, bottom = (
        [Row((name,), 1.05, True)],
        ([Row((day,), 1.0)] if len(bought) < 4 and dice.random() < 0.5 else []),
    )
    if held:
        rows = [*bottom, last, things[0]._replace(rule=True), *things[1:], *top]
    else:
        rows = ordered(top, [*things, last._replace(rule=True)], bottom, dice)
    facts: dict[Topic, str] = {("shop",): name, ("sum",): total}
    facts |= {("item", item): price(cents, language) for item, cents in bought.items()}
    facts |= {("date",): day} if bottom else {}
    told = ", ".join(f"{item} {price(cents, language)}" for item, cents in bought.items())
    caption = f"A receipt of {name}: {told}, total {total}."
    return Document(rows, facts, caption, language, shape=dice.choice(SHAPES)).plan(held, dice)


def ordered(name: list[Row], body: list[Row], day: list[Row], dice: random.Random) -> list[Row]:
    """Where training has the shop and the date: above what was bought, or below, each by itself.

    Who always finds the shop on top learns to look there, and not what a shop looks like.
    """
    rows = [*name, *body] if dice.random() < 0.6 else [*body, *name]
    return [*rows, *day] if dice.random() < 0.6 else [*day, *rows]


def purchase(language: str, number: int, dice: random.Random) -> dict[str, int]:
    """Things and their prices in cents."""
    return {
        item: dice.randrange(50, 1500, 5 if dice.random() < 0.5 else 1)
        for item in dice.sample(ITEMS[language], number)
    }


def goods(bought: dict[str, int], language: str) -> list[Row]:
    """A row for each thing."""
    return [Row((item, price(cents, language))) for item, cents in bought.items()]
