"""Where things lie in a scene. Training scatters or lines them up; what is held out uses other layouts."""

from __future__ import annotations

import math
import random
from typing import TypeAlias

Box: TypeAlias = tuple[int, int, int, int]  # left, top, right, bottom; square

SIDE = 224  # pixels a side of a scene
EDGE = 6
SEEN = ("scatter", "scatter", "scatter", "row", "column")
HELD = ("grid", "ring", "slope")
LINED = 4  # things that a row, a column or a slope has room for


def places(number: int, held: bool, dice: random.Random) -> list[Box]:
    """`number` boxes that do not touch, in the order in which they were laid out."""
    layout = dice.choice((HELD if number <= LINED else HELD[:2]) if held else SEEN)
    if number == 1:
        return [_single(held, dice)]
    if layout == "scatter" or (not held and number > LINED):
        return _scattered(number, dice)
    return [_shaken(box, dice) for box in LAYOUTS[layout](number)]


def _single(held: bool, dice: random.Random) -> Box:
    """One large thing: anywhere for training; held out, in a corner or the middle of a side."""
    side = dice.randint(90, 120) if held else dice.randint(80, 190)
    room = SIDE - 2 * EDGE - side
    across, down = (dice.choice((0, 0.5, 1)) if held else dice.random() for _ in range(2))
    left, top = EDGE + round(across * room), EDGE + round(down * room)
    return left, top, left + side, top + side


def _scattered(number: int, dice: random.Random) -> list[Box]:
    """Boxes by trial: smaller ones whenever no room is found."""
    largest = (0, 0, 100, 84, 74, 66, 60)[number]
    while True:
        boxes: list[Box] = []
        for _ in range(40 * number):
            side = dice.randint(round(0.66 * largest), largest)
            left, top = (dice.randint(EDGE, SIDE - EDGE - side) for _ in range(2))
            box = left, top, left + side, top + side
            if all(apart(box, other) for other in boxes):
                boxes.append(box)
            if len(boxes) == number:
                return boxes
        largest -= 4


def apart(one: Box, other: Box, gap: int = 4) -> bool:
    """Whether two boxes leave a gap between them."""
    return (
        one[2] + gap <= other[0]
        or other[2] + gap <= one[0]
        or one[3] + gap <= other[1]
        or other[3] + gap <= one[1]
    )


def _square(x: float, y: float, side: float) -> Box:
    left, top = round(x - side / 2), round(y - side / 2)
    return left, top, left + round(side), top + round(side)


def _row(number: int) -> list[Box]:
    step = (SIDE - 2 * EDGE) / number
    return [_square(EDGE + (i + 0.5) * step, SIDE / 2, min(step - 6, 92)) for i in range(number)]


def _column(number: int) -> list[Box]:
    return [(top, left, bottom, right) for left, top, right, bottom in _row(number)]


def _grid(number: int) -> list[Box]:
    rows = 1 if number == 2 else 2
    columns = math.ceil(number / rows)
    wide, high = (SIDE - 2 * EDGE) / columns, (SIDE - 2 * EDGE) / 2
    shift = high / 2 if rows == 1 else 0
    side = min(wide, high) - 14
    return [
        _square(EDGE + (i % columns + 0.5) * wide, EDGE + shift + (i // columns + 0.5) * high, side)
        for i in range(number)
    ]


def _ring(number: int) -> list[Box]:
    side = min(84, 2 * 76 * math.sin(math.pi / number) / 1.6)
    middle = SIDE / 2
    angles = [2 * math.pi * (i / number + 0.125) for i in range(number)]
    return [_square(middle + 70 * math.cos(a), middle + 70 * math.sin(a), side) for a in angles]


def _slope(number: int) -> list[Box]:
    step = (SIDE - 2 * EDGE) / number
    side = min(92, step * 1.0 - 4)
    middles = [EDGE + (i + 0.5) * step for i in range(number)]
    return [_square(at, at, side) for at in middles]


LAYOUTS = {"row": _row, "column": _column, "grid": _grid, "ring": _ring, "slope": _slope}


def _shaken(box: Box, dice: random.Random) -> Box:
    """A box a little smaller and a little off its place, never outside of itself."""
    side = box[2] - box[0]
    smaller = round(side * dice.uniform(0.82, 1.0))
    left, top = (at + dice.randint(0, side - smaller) for at in box[:2])
    return left, top, left + smaller, top + smaller
