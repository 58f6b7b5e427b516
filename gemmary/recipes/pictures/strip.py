"""Wide and tall documents, which can be read only in the crops of pan & scan.

A strip is three or four square panels in a row or a column, each as large as one crop (inputs.crops: a crop
is at least 256 pixels a side, and a picture of shape 3:1 is cut into three). Capitals are between what the
tower reads in a crop and LARGEST, so that they are 4 to 5 pixels high, or letters as narrow, when the whole
is resized. No line crosses from one panel into the next, so no crop cuts one.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

from PIL import Image

from . import page
from .document import asked, mirrored
from .drawn import Plan, Topic
from .page import Row
from .receipt import goods, purchase
from .ticket import gate
from .wording import CITIES, currency, date, label, price, shop, time, tongue

CROP = 256
LEAST, LARGEST = CROP * page.CAPITAL / page.TOWER, 18.5  # pixels of a capital
MARGIN = 12


class Content(NamedTuple):
    """The rows of each panel, and what is known of them."""

    panels: list[list[Row]]
    facts: dict[Topic, str]
    caption: str


def banner(held: bool, dice: random.Random) -> Plan:
    """A wide document: a menu or departures side by side."""
    return plan(True, dice.choice((menu, departures)), held, dice)


def roll(held: bool, dice: random.Random) -> Plan:
    """A tall document: a long receipt, a menu or departures."""
    return plan(False, dice.choice((bill, bill, menu, departures)), held, dice)


def plan(
    wide: bool, made: Callable[[str, int, random.Random], Content], held: bool, dice: random.Random
) -> Plan:
    """A strip of one sort. Held out, its panels come in the opposite order; in training, in any but that."""
    language = tongue(dice)
    content = made(language, dice.choice((3, 4)), dice)
    panels = content.panels[::-1] if held else shuffled(content.panels, dice)

    length = CROP * len(panels)
    size = (length, CROP) if wide else (CROP, length)

    def paint(dice: random.Random) -> Image.Image:
        return painted(panels, size, held, dice)

    asks = asked(content.facts, language, held, dice)
    return Plan(content.caption, asks, content.facts.get, paint, ("a long page",), size)


def painted(panels: list[list[Row]], size: tuple[int, int], held: bool, dice: random.Random) -> Image.Image:
    """The panels, all in one hand."""
    rows, room = [row for panel in panels for row in panel], CROP - 2 * MARGIN
    drawn = page.hand(rows, (room, room * len(panels)), LEAST, held, False, dice)
    picture = Image.new("RGB", size, drawn.paper)
    page.frame(picture, drawn)
    box = MARGIN, MARGIN, CROP - MARGIN, CROP - MARGIN
    for i, panel in enumerate(panels):
        corner = (i * CROP, 0) if size[1] == CROP else (0, i * CROP)
        part = picture.crop((*corner, corner[0] + CROP, corner[1] + CROP))
        page.letter(part, panel, box, drawn, dice, (LEAST, LARGEST))
        picture.paste(part if held else page.slanted(part, drawn.paper, dice), corner)
    return picture


def shuffled(panels: list[list[Row]], dice: random.Random) -> list[list[Row]]:
    """The panels in any order but the opposite one, at times with prices before things."""
    while (found := dice.sample(panels, len(panels))) == panels[::-1]:
        pass
    rows = iter(mirrored([row for panel in found for row in panel], dice))
    return [[next(rows) for _ in panel] for panel in found]


def menu(language: str, panels: int, dice: random.Random) -> Content:
    """Two to four things with prices a panel."""
    bought = purchase(language, panels * dice.randint(2, 4), dice)
    rows = goods(bought, language)
    each = len(rows) // panels
    parts = [rows[i * each : (i + 1) * each] for i in range(panels)]
    facts: dict[Topic, str] = {("item", item): price(cents, language) for item, cents in bought.items()}
    told = ", ".join(f"{item} {price(cents, language)}" for item, cents in bought.items())
    return Content(parts, facts, f"A menu: {told}.")


def departures(language: str, panels: int, dice: random.Random) -> Content:
    """A panel for each destination."""
    cities = dice.sample(CITIES, panels)
    times, gates = [time(dice) for _ in cities], [gate(dice) for _ in cities]
    parts = [
        [
            Row((city,), 1.1, True),
            Row((label("departs", language), at)),
            Row((label("gate", language), where)),
        ]
        for city, at, where in zip(cities, times, gates, strict=True)
    ]
    facts: dict[Topic, str] = {("departs to", city): at for city, at in zip(cities, times, strict=True)}
    facts |= {("gate to", city): where for city, where in zip(cities, gates, strict=True)}
    told = ", ".join(f"{c} {at} gate {g}" for c, at, g in zip(cities, times, gates, strict=True))
    return Content(parts, facts, f"Departures: {told}.")


def bill(language: str, panels: int, dice: random.Random) -> Content:
    """A receipt whose head, things and total have panels of their own."""
    inner = panels - 2
    bought = purchase(language, inner * dice.randint(3, 5), dice)
    rows, name, day = goods(bought, language), shop(dice), date(dice)
    total = price(sum(bought.values()), language, currency(language, dice))
    each = len(rows) // inner
    parts = [
        [Row((name,), 1.1, True), Row((day,))],
        *(rows[i * each : (i + 1) * each] for i in range(inner)),
        [Row((label("total", language), total), bold=True, rule=True)],
    ]
    facts: dict[Topic, str] = {("shop",): name, ("date",): day, ("sum",): total}
    facts |= {("item", item): price(cents, language) for item, cents in bought.items()}
    told = ", ".join(f"{item} {price(cents, language)}" for item, cents in bought.items())
    return Content(parts, facts, f"A receipt of {name}, {day}: {told}, total {total}.")
