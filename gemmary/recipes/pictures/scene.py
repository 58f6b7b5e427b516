"""Scenes of emoji: one to six things on a coloured ground, and what can be asked about them.

What is held out: a fifth of all pairs of things, chosen once and for all by a hash of their names. No scene
of training shows such a pair; every held-out scene of two things or more does.
"""

from __future__ import annotations

import functools
import hashlib
import random
from collections.abc import Iterable
from dataclasses import dataclass

from PIL import Image

from . import backdrop, emoji
from .drawn import Ask, Plan, Topic
from .nouns import LANGUAGES, NOUNS, TABLE, Noun, colour, listed, sentence
from .places import SIDE, Box, places

ASKED = TABLE["asked"]
BY_NAME = {noun.name: noun for noun in NOUNS}
ENGLISH = 0.7  # share of the questions that are asked in English
TURN, GAP = 40, 24  # pixels by which the outermost thing must stand out before it is asked about
SIDES = {"left": (0, 1), "right": (0, -1), "top": (1, 1), "bottom": (1, -1)}


@dataclass(frozen=True)
class Scene:
    """Things in their boxes on a background of one or two colours."""

    things: tuple[tuple[Noun, Box], ...]
    colours: tuple[str, ...]
    ground: str  # plain, graded or halves

    def counts(self) -> dict[Noun, int]:
        """How many there are of each, in the order of NOUNS: a scene has one right list of its contents."""
        nouns = [noun for noun, _ in self.things]
        return {noun: nouns.count(noun) for noun in sorted(set(nouns), key=NOUNS.index)}

    def contents(self, language: str) -> str:
        """A dog, two cats and a car."""
        return listed([noun.counted(many, language) for noun, many in self.counts().items()], language)

    def outermost(self, side: str) -> Noun | None:
        """The thing that clearly stands farthest to one side, or None."""
        axis, sign = SIDES[side]
        ordered = sorted(self.things, key=lambda thing: sign * middle(thing[1], axis))
        if len(ordered) < 2 or self.counts()[ordered[0][0]] > 1:
            return None
        ahead = sign * (middle(ordered[1][1], axis) - middle(ordered[0][1], axis))
        return ordered[0][0] if ahead >= GAP else None

    def fact(self, topic: Topic) -> str | None:
        """What is true of the scene, in no language."""
        sort = topic[0]
        if sort in ("count", "there"):
            number = self.counts().get(BY_NAME[topic[1]], 0)
            return str(number if sort == "count" else number > 0)
        if sort in SIDES:
            outermost = self.outermost(sort)
            return outermost.name if outermost else None
        if sort == "total":
            return str(len(self.things))
        if sort == "background":
            return " ".join(sorted(self.colours))
        return " ".join(sorted(noun.name for noun, _ in self.things))

    def phrases(self) -> tuple[str, ...]:
        """Each thing, how many of it, where the outermost ones are, how many in all, and the background."""
        counts = self.counts()
        named = [noun.name for noun in counts]
        counted = [noun.counted(many, "en") for noun, many in counts.items()]
        places = [f"{found.name} {side}" for side in SIDES if (found := self.outermost(side))]
        total = f"{TABLE['numbers']['en'][len(self.things) - 1]} thing{'s' * (len(self.things) > 1)}"
        return (*named, *counted, *places, total, f"{' and '.join(sorted(self.colours))} background")

    def paint(self, dice: random.Random) -> Image.Image:
        """The scene, RGB, 224 x 224."""
        picture = self._background(dice)
        for noun, box in self.things:
            emoji.stuck(picture, noun.sign, box, dice)
        return backdrop.grained(picture, dice, dice.randint(6, 30)) if dice.random() < 0.3 else picture

    def _background(self, dice: random.Random) -> Image.Image:
        shades = [
            backdrop.shade(backdrop.COLOURS[name], dice)
            for name in dice.sample(self.colours, len(self.colours))
        ]
        size, upright = (SIDE, SIDE), dice.random() < 0.5
        if self.ground == "halves":
            return backdrop.halves(size, shades[0], shades[1], upright)
        if self.ground == "graded":
            near = backdrop.shade(shades[0], dice, 40)
            return backdrop.graded(size, shades[0], near, upright)
        return Image.new("RGB", size, shades[0])


def middle(box: Box, axis: int) -> float:
    """The middle of a box, across (0) or down (1)."""
    return (box[axis] + box[axis + 2]) / 2


@functools.cache
def reserved(one: str, other: str) -> bool:
    """Whether this pair of things is kept out of training."""
    pair = " + ".join(sorted((one, other)))
    return hashlib.sha256(pair.encode()).digest()[0] % 5 == 0


def plan(held: bool, dice: random.Random) -> Plan:
    """A scene with what is asked about it."""
    scene = scenery(held, dice)
    ground = " and ".join(scene.colours)
    article = "an" if ground[0] in "aeiou" else "a"
    caption = sentence(f"{scene.contents('en')} on {article} {ground} background")
    asks = tuple(asked(scene, dice))
    return Plan(caption, asks, scene.fact, scene.paint, scene.phrases(), (SIDE, SIDE))


def scenery(held: bool, dice: random.Random) -> Scene:
    """Things, their places, and a ground on which each of them is seen."""
    while True:
        nouns = company(held, dice)
        grounds = [name for name in backdrop.COLOURS if suits(name, nouns)]
        if grounds:
            break
    numbers = amounts(len(nouns), dice)
    things = [noun for noun, number in zip(nouns, numbers, strict=True) for _ in range(number)]
    boxes = dice.sample(laid := places(len(things), held, dice), len(laid))
    ground = dice.choices(("plain", "graded", "halves"), (5, 3, 2 * (len(grounds) > 1)))[0]
    colours = sorted(dice.sample(grounds, 2 if ground == "halves" else 1), key=grounds.index)
    return Scene(tuple(zip(things, boxes, strict=True)), tuple(colours), ground)


def company(held: bool, dice: random.Random) -> list[Noun]:
    """One to four different things. Held out, the second is one that training never puts beside the first."""
    size = dice.choices((1, 2, 3, 4), (45, 30, 17, 8))[0]
    chosen = [dice.choice(NOUNS)]
    while len(chosen) < size:
        wanted = held and len(chosen) == 1
        found = [n for n in NOUNS if n not in chosen and (held or not clashes(n, chosen))]
        chosen.append(dice.choice([n for n in found if not wanted or reserved(n.name, chosen[0].name)]))
    return chosen


def clashes(noun: Noun, others: Iterable[Noun]) -> bool:
    """Whether a thing is held out beside any of the others."""
    return any(reserved(noun.name, other.name) for other in others)


def suits(ground: str, nouns: list[Noun]) -> bool:
    """Whether things are seen on a ground."""
    return not any(emoji.lost(noun.sign, backdrop.COLOURS[ground]) for noun in nouns)


def amounts(nouns: int, dice: random.Random) -> list[int]:
    """How many of each: six at most."""
    if nouns == 1:
        return [dice.choices((1, 2, 3, 4, 5, 6), (40, 12, 12, 12, 12, 12))[0]]
    spare = dice.randint(0, 6 - nouns)
    numbers = [1] * nouns
    for _ in range(spare):
        numbers[dice.randrange(nouns)] += 1
    return numbers


def asked(scene: Scene, dice: random.Random) -> Iterable[Ask]:
    """Three questions of different sorts, or four."""
    sorts = ["list", "total", "there", "background"] + ["count"] * (len(scene.things) > 1)
    sides = [side for side in SIDES if scene.outermost(side) is not None]
    if sides:
        sorts += [dice.choice(sides)] * 2
    chosen = dict.fromkeys(dice.sample(sorts, min(len(sorts), 4)))
    for sort in chosen:
        language = "en" if dice.random() < ENGLISH else dice.choice(LANGUAGES[1:])
        yield ask(scene, sort, language, dice)


def ask(scene: Scene, sort: str, language: str, dice: random.Random) -> Ask:
    """A question of one sort."""
    wording = dice.choice(ASKED[sort][language])
    if sort == "count":
        noun = counted(scene, dice) if dice.random() < 0.85 else absent(scene, dice)
        number = scene.counts().get(noun, 0)
        answer = f"one {noun.name}" if (number, language) == (1, "en") else noun.counted(number, language)
        return Ask((sort, noun.name), wording.format(**noun.blanks(language)), sentence(answer))
    if sort == "there":
        noun = dice.choice(list(scene.counts())) if dice.random() < 0.5 else absent(scene, dice)
        answer = TABLE["yes" if noun in scene.counts() else "no"][language]
        return Ask((sort, noun.name), wording.format(**noun.blanks(language)), answer)
    return Ask((sort,), wording, sentence(told(scene, sort, language)))


def told(scene: Scene, sort: str, language: str) -> str:
    """The answer to a question that names nothing."""
    if sort == "list":
        return scene.contents(language)
    if sort == "total":
        return str(TABLE["numbers"][language][len(scene.things) - 1])
    if sort == "background":
        return listed([colour(name, language) for name in scene.colours], language)
    outermost = scene.outermost(sort)
    return outermost.one[language] if outermost else ""


def counted(scene: Scene, dice: random.Random) -> Noun:
    """A thing to count, rather one of which there are many: else most answers would be "one"."""
    counts = scene.counts()
    return dice.choices(list(counts), list(counts.values()))[0]


def absent(scene: Scene, dice: random.Random) -> Noun:
    """A thing that is not there."""
    return dice.choice([noun for noun in NOUNS if noun not in scene.counts()])
