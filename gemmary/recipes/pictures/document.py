"""A document before it is painted: rows, what is known of them, what is asked."""

from __future__ import annotations

import random
from dataclasses import dataclass

from PIL import Image

from . import page
from .drawn import Ask, Plan, Topic
from .page import Row
from .wording import question

MOST, MOST_HELD = 6, 3  # questions about a page: to look at it costs a model more than to be asked once more
SHAPES = ((224, 224), (224, 224), (224, 224), (256, 224), (224, 248), (280, 240))


@dataclass(frozen=True)
class Document:
    """Rows on a page of some shape, and the facts in them by topic.

    largest bounds the capitals, as a share of the page's height. one_way: columns stay in their order, where
    training else has some `mirrored`.
    """

    rows: list[Row]
    facts: dict[Topic, str]
    caption: str
    language: str = "en"
    mono: bool = False
    largest: float = 0.2
    shape: tuple[int, int] = (page.TOWER, page.TOWER)
    one_way: bool = False

    def plan(self, held: bool, dice: random.Random) -> Plan:
        """The plan of this document, with questions on different topics."""

        rows = self.rows if held or self.one_way else mirrored(self.rows, dice)

        def paint(dice: random.Random) -> Image.Image:
            return page.sheet(rows, self.shape, held, dice, self.mono, self.largest)

        asks = asked(self.facts, self.language, held, dice)
        return Plan(self.caption, asks, self.facts.get, paint, phrases(self.rows), self.shape)


def mirrored(rows: list[Row], dice: random.Random) -> list[Row]:
    """Rows as training has them: a quarter with their columns the other way round, prices before things.

    Who always finds what is asked for to the right of its name looks there, and not in its row.
    """
    if dice.random() < 0.75:
        return rows
    return [row._replace(cells=row.cells[::-1]) for row in rows]


def phrases(rows: list[Row]) -> tuple[str, ...]:
    """Each cell, and each row of several, whatever their case: what can be read."""
    lines = [" ".join(row.cells) for row in rows if len(row.cells) > 1]
    cells = [cell for row in rows for cell in row.cells]
    return tuple(dict.fromkeys(text.casefold() for text in (*cells, *lines)))


def asked(facts: dict[Topic, str], language: str, held: bool, dice: random.Random) -> tuple[Ask, ...]:
    """Questions on some of the facts."""
    topics = dice.sample(list(facts), min(MOST_HELD if held else MOST, len(facts)))
    return tuple(Ask(topic, question(topic, language, dice), facts[topic]) for topic in topics)


def shape(dice: random.Random) -> tuple[int, int]:
    """Width and height of a page, near to a square."""
    return dice.choice(SHAPES)
