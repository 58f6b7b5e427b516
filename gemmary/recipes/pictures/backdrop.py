"""What pictures are painted on: plain, graded and two-coloured backgrounds, and paper."""

from __future__ import annotations

import random

from PIL import Image, ImageChops

from .emoji import Colour

COLOURS: dict[str, Colour] = {
    "white": (250, 250, 250),
    "grey": (150, 150, 152),
    "black": (18, 18, 20),
    "red": (214, 40, 40),
    "orange": (247, 138, 20),
    "yellow": (250, 220, 50),
    "green": (52, 150, 62),
    "blue": (44, 96, 210),
    "purple": (126, 58, 176),
    "pink": (248, 160, 200),
    "brown": (122, 76, 40),
}
PAPERS: tuple[Colour, ...] = (
    (255, 255, 255), (255, 255, 255), (250, 248, 240), (245, 240, 222), (240, 244, 248), (252, 244, 200),
    (226, 240, 226), (250, 226, 226), (236, 236, 236),
)  # fmt: skip
INKS: tuple[Colour, ...] = (
    (0, 0, 0), (20, 20, 24), (34, 34, 40), (20, 30, 90), (110, 10, 20), (10, 70, 40), (60, 30, 10),
)  # fmt: skip
BOARDS: tuple[Colour, ...] = (
    (12, 12, 14), (20, 40, 90), (10, 80, 50), (150, 20, 24), (60, 30, 90), (40, 44, 52), (90, 50, 20),
)  # fmt: skip
CHALKS: tuple[Colour, ...] = ((255, 255, 255), (255, 255, 255), (250, 240, 200), (255, 226, 80))
GRAIN = 64


def shade(colour: Colour, dice: random.Random, spread: int = 14) -> Colour:
    """A colour near the given one: a little lighter or darker, and hardly of another hue."""
    lighter = dice.randint(-spread, spread)
    r, g, b = (min(255, max(0, value + lighter + dice.randint(-5, 5))) for value in colour)
    return r, g, b


def graded(size: tuple[int, int], one: Colour, other: Colour, upright: bool) -> Image.Image:
    """A gradient from one colour to another, downward or to the right."""
    ramp = Image.linear_gradient("L")
    if not upright:
        ramp = ramp.transpose(Image.Transpose.ROTATE_90).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return Image.composite(Image.new("RGB", size, other), Image.new("RGB", size, one), ramp.resize(size))


def halves(size: tuple[int, int], one: Colour, other: Colour, upright: bool) -> Image.Image:
    """Two colours, one above or left of the other."""
    picture = Image.new("RGB", size, one)
    width, height = size
    picture.paste(other, (0, height // 2, width, height) if upright else (width // 2, 0, width, height))
    return picture


def grained(picture: Image.Image, dice: random.Random, strength: int = 14) -> Image.Image:
    """A picture with the noise of a camera: at most `strength` of 255 a pixel, the same in all channels."""
    tile = Image.frombytes("L", (GRAIN, GRAIN), dice.randbytes(GRAIN * GRAIN))
    tile = tile.point([round((value - 128) * strength / 128) + 128 for value in range(256)])
    noise = Image.new("L", picture.size)
    for top in range(0, picture.height, GRAIN):
        for left in range(0, picture.width, GRAIN):
            noise.paste(tile, (left, top))
    return ImageChops.add(picture, noise.convert("RGB"), 1, -128)
