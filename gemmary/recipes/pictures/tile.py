"""Tiles of a collage: one thing, or one line of text, as large as they go. What eyes learn from first.

A tile says one thing, so that what is learnt of it belongs to its few patches. A line of text also says its
characters one by one: whole words are too many for reading to begin with them.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from PIL import Image

from . import backdrop, emoji, page
from .drawn import Plan
from .lettering import value
from .nouns import LANGUAGES, NOUNS, sentence
from .page import Row
from .places import SIDE
from .scene import Scene
from .wording import CITIES, DAYS, ITEMS, NAMES, SHOPS, WORDS, made_up

PAGE, MARGIN = 128, 7  # pixels
SPELT = 8  # characters that are named one by one
CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" + "0123456789" * 5 + ".,:-/€$£"
LEXICON = (
    *(word for words in WORDS.values() for word in words),
    *(word for language in LANGUAGES for word in (*ITEMS[language], *DAYS[language])),
    *CITIES, *NAMES, *SHOPS,
)  # fmt: skip
SHORT = [word for word in LEXICON if len(word) <= 4]


def thing(held: bool, dice: random.Random) -> Plan:
    """A thing that fills half of the tile at least, on a ground on which it is seen."""
    noun = dice.choice(NOUNS)
    grounds = [name for name, colour in backdrop.COLOURS.items() if not emoji.lost(noun.sign, colour)]
    halved = dice.random() < 0.2 and len(grounds) > 1
    colours = tuple(sorted(dice.sample(grounds, 1 + halved)))
    side = dice.randint(SIDE // 2, SIDE - 4)
    left, top = (dice.randint(2, SIDE - side - 2) for _ in range(2))
    ground = "halves" if halved else dice.choice(("plain", "graded"))
    scene = Scene(((noun, (left, top, left + side, top + side)),), colours, ground)
    caption = sentence(noun.one["en"])
    known = noun.name, scene.phrases()[-1]
    return Plan(caption, (), lambda topic: None, scene.paint, known, (SIDE, SIDE))


def label(held: bool, dice: random.Random) -> Plan:
    """A word, a number, or characters at random, for a quarter of a picture."""
    return _written(_text(dice), 0.1, held, dice)


def letters(held: bool, dice: random.Random) -> Plan:
    """One character or two, for a sixteenth of a picture."""
    return _written(_characters(dice.randint(1, 2), dice), 0.25, held, dice)


def sign(held: bool, dice: random.Random) -> Plan:
    """At most four characters, for a sixteenth of a picture."""
    text = dice.choice(SHORT) if dice.random() < 0.3 else _characters(dice.randint(2, 4), dice)
    return _written(text, 0.25, held, dice)


def _text(dice: random.Random) -> str:
    drawn = dice.random()
    if drawn < 0.4:
        return dice.choice((str.upper, str.capitalize, str))(dice.choice(LEXICON))
    if drawn < 0.7:
        return value(dice.choice(("number", "price", "price", "time", "date", "code")), "en", dice)
    return made_up(dice) if drawn < 0.8 else _characters(dice.randint(2, 7), dice)


def _characters(number: int, dice: random.Random) -> str:
    return "".join(dice.choice(CHARACTERS) for _ in range(number))


def _written(text: str, least: float, held: bool, dice: random.Random) -> Plan:
    """`least`: the height of capitals, where the text is short enough, as a share of the tile."""
    plain = text.casefold()
    spelt = [f"{place} {sign}" for place, sign in enumerate(plain[:SPELT], 1)]
    phrases = tuple(dict.fromkeys((text, plain, *spelt, f"last {plain[-1]}", f"{len(plain)} characters")))
    paint = _painter(Row((text,)), least, held)
    return Plan(f'"{text}".', (), lambda topic: None, paint, phrases, (PAGE, PAGE))


def _painter(row: Row, least: float, held: bool) -> Callable[[random.Random], Image.Image]:
    room = PAGE - 2 * MARGIN
    box = MARGIN, MARGIN, PAGE - MARGIN, PAGE - MARGIN

    def paint(dice: random.Random) -> Image.Image:
        hand = page.hand([row], (room, room), least * PAGE, held, False, dice)
        picture = Image.new("RGB", (PAGE, PAGE), hand.paper)
        page.letter(picture, [row], box, hand, dice, (least * PAGE, 0.6 * PAGE))
        return page.worn(picture, hand.paper, held, dice)

    return paint
