"""The gallery: every number is a picture, the same whenever it is asked for."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from typing import NamedTuple

from . import lettering, notice, receipt, scene, strip, table, terminal, ticket, tile
from .drawn import Drawn, Plan

NEIGHBOURS = 48  # pictures that are tried for a wrong one


class Kind(NamedTuple):
    """A kind of picture, and its share when no kind is asked for. Tiles of collages have none."""

    name: str
    share: float


MAKERS: dict[str, Callable[[bool, random.Random], Plan]] = {
    "scene": scene.plan,
    "word": lettering.word,
    "number": lettering.number,
    "receipt": receipt.plan,
    "table": table.plan,
    "notice": notice.plan,
    "ticket": ticket.plan,
    "terminal": terminal.plan,
    "banner": strip.banner,
    "roll": strip.roll,
    "thing": tile.thing,
    "letters": tile.letters,
    "label": tile.label,
    "sign": tile.sign,
}
KINDS: tuple[Kind, ...] = (
    Kind("scene", 0.42),
    Kind("word", 0.17),
    Kind("number", 0.12),
    Kind("receipt", 0.06),
    Kind("table", 0.05),
    Kind("notice", 0.06),
    Kind("ticket", 0.05),
    Kind("terminal", 0.03),
    Kind("banner", 0.02),  # wide and tall: for pan & scan
    Kind("roll", 0.02),
)


class Gallery:
    """Pictures by number, all different.

    Those that are `held` use fonts, layouts and combinations of things that the others never use.

    A picture depends on seed, held, number and kind, and on which of the fonts are installed (fonts.report).
    """

    def __init__(self, seed: int, held: bool = False) -> None:
        self.seed, self.held = seed, held

    def draw(self, number: int, kind: str | None = None) -> Drawn:
        """Picture `number`, of a kind, or of that which its number falls on. FontError, ValueError."""
        kind = kind or self.kind(number)
        plan = self.plan(number, kind)
        picture = plan.paint(self._dice("paint", number, kind))
        sorts = tuple(ask.topic[0] for ask in plan.asks)
        return Drawn(picture, kind, plan.caption, plan.exchanges, sorts, plan.phrases)

    def kind(self, number: int) -> str:
        """The kind that a number falls on."""
        names, shares = zip(*KINDS, strict=True)
        return str(self._dice("kind", number).choices(names, shares)[0])

    def wrong(self, number: int, kind: str | None = None) -> int:
        """The number of another picture of this kind, on which this picture's questions have other answers.

        To be drawn with the same `kind` as the picture itself. Of the pictures that come next, it is the
        first that answers all of the questions differently, or else the one that answers most so.
        """
        wanted = kind or self.kind(number)
        plan, best, most = self.plan(number, wanted), number, -1
        other = number
        for _ in range(NEIGHBOURS):
            other = next(n for n in range(other + 1, other + 10**6) if kind or self.kind(n) == wanted)
            apart = plan.sets_apart(self.plan(other, wanted))
            if apart > most:
                best, most = other, apart
            if apart == len(plan.asks):
                break
        return best

    def plan(self, number: int, kind: str) -> Plan:
        """What is known of a picture, without painting it."""
        return planned(self.seed, self.held, number, kind)

    def _dice(self, *what: object) -> random.Random:
        return dice(self.seed, self.held, *what)


@functools.lru_cache(maxsize=4096)
def planned(seed: int, held: bool, number: int, kind: str) -> Plan:
    """The plan of a picture."""
    if kind not in MAKERS:
        raise ValueError(f"there are no pictures of kind {kind!r}: choose from {', '.join(MAKERS)}")
    return MAKERS[kind](held, dice(seed, held, "plan", number, kind))


def dice(*what: object) -> random.Random:
    """Dice that fall the same way whenever they are thrown for the same purpose."""
    return random.Random(" ".join(map(str, what)))
