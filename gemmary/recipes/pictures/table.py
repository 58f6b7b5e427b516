"""Small tables: a head, two to five rows, two or three columns."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import NamedTuple

from .document import Document
from .drawn import Plan, Topic
from .page import Row
from .wording import CITIES, ITEMS, NAMES, label, price, tongue


class Layout(NamedTuple):
    """What the first column names, and the columns beside it."""

    head: str
    columns: tuple[str, ...]


LAYOUTS = (
    Layout("name", ("points",)),
    Layout("name", ("age",)),
    Layout("city", ("warmth",)),
    Layout("item", ("price",)),
    Layout("item", ("number",)),
    Layout("name", ("age", "points")),
    Layout("item", ("number", "price")),
)
BROAD = tuple(layout for layout in LAYOUTS if len(layout.columns) > 1)  # names may stand between columns
TRAINED = (*LAYOUTS, *BROAD, *BROAD)
VALUES: Mapping[str, Callable[[str, random.Random], str]] = {
    "points": lambda language, dice: str(dice.randrange(100)),
    "age": lambda language, dice: str(dice.randint(1, 99)),
    "price": lambda language, dice: price(dice.randrange(50, 2000), language),
    "number": lambda language, dice: str(dice.randint(1, 60)),
    "warmth": lambda language, dice: str(dice.randint(-15, 39)),
}


def plan(held: bool, dice: random.Random) -> Plan:
    """A table: its names first, between the others, or in the head of a table of two or three.

    Held out, the columns stand the other way round: the names last.
    """
    language, layout = tongue(dice), dice.choice(LAYOUTS if held else TRAINED)
    names = dice.sample(
        {"name": NAMES, "city": CITIES, "item": ITEMS[language]}[layout.head], dice.randint(2, 5)
    )
    values = [tuple(VALUES[column](language, dice) for column in layout.columns) for _ in names]
    heads = tuple(label(column, language) for column in layout.columns)
    lines = [
        (label(layout.head, language), *heads),
        *((name, *v) for name, v in zip(names, values, strict=True)),
    ]
    placed = [line[::-1] for line in lines] if held else turned(lines, dice)
    rows = [Row(line, bold=not i, rule=i == 1) for i, line in enumerate(placed)]
    facts: dict[Topic, str] = {
        ("cell", name, head): cell
        for name, row in zip(names, values, strict=True)
        for head, cell in zip(heads, row, strict=True)
    }
    told = ", ".join(" ".join(line) for line in lines[1:])
    caption = f"A table of {' and '.join(heads)}: {told}."
    return Document(rows, facts | {("first",): names[0]}, caption, language, one_way=True).plan(held, dice)


def turned(lines: list[tuple[str, ...]], dice: random.Random) -> list[tuple[str, ...]]:
    """Lines as training has them: their columns in any order that does not end with the names, or rows and
    columns exchanged, where that makes three columns at most.
    """
    if len(lines) <= 3 and dice.random() < 0.3:
        return list(zip(*lines, strict=True))
    if len(lines[0]) < 3:
        return lines
    order = dice.choice(((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 0, 2), (2, 0, 1), (2, 0, 1)))
    return [tuple(line[column] for column in order) for line in lines]
