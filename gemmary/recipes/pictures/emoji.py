"""Emoji as sprites: small pictures with alpha, each made once."""

from __future__ import annotations

import functools
import random
from typing import TypeAlias

from PIL import Image, ImageDraw, ImageFont

from .fonts import INSTALL, FontError, emoji_file

STRIKE = 109  # the one size in which Noto Color Emoji holds its bitmaps
CANVAS = 160
ROOM = 0.84  # of a box is left to what is turned, whose corners reach out (most emoji are round)
ALIKE, MOST = 130.0, 0.45  # how near two colours are that look alike, and how much of a thing may vanish

Colour: TypeAlias = tuple[int, int, int]


@functools.cache
def _font() -> ImageFont.FreeTypeFont:
    try:
        return ImageFont.truetype(emoji_file(), STRIKE, layout_engine=ImageFont.Layout.BASIC)
    except OSError as error:
        raise FontError(
            f"{emoji_file()} holds no emoji of {STRIKE} pixels, as Debian's does. {INSTALL}"
        ) from error


@functools.cache
def sprite(sign: str) -> Image.Image:
    """An emoji, RGBA, cut to what is seen of it."""
    canvas = Image.new("RGBA", (CANVAS, CANVAS))
    ImageDraw.Draw(canvas).text((8, 8), sign, font=_font(), embedded_color=True)
    box = canvas.getchannel("A").getbbox()
    if box is None:
        raise FontError(f"the font for emoji has no {sign}. {INSTALL}")
    return canvas.crop(box)


@functools.cache
def lost(sign: str, colour: Colour) -> bool:
    """Whether most of an emoji would vanish on a background of that colour."""
    small = sprite(sign).resize((16, 16), Image.Resampling.BOX)
    flat = iter(small.tobytes())
    solid = [(r, g, b) for r, g, b, alpha in zip(flat, flat, flat, flat, strict=True) if alpha > 127]
    return sum(distance(pixel, colour) < ALIKE for pixel in solid) > len(solid) * MOST


def distance(one: Colour, other: Colour) -> float:
    """How far apart two colours look, roughly: 0 to about 760 (the "redmean" formula)."""
    mean = (one[0] + other[0]) / 2
    r, g, b = (a - c for a, c in zip(one, other, strict=True))
    return float(((2 + mean / 256) * r * r + 4 * g * g + (2 + (255 - mean) / 256) * b * b) ** 0.5)


def stuck(picture: Image.Image, sign: str, box: tuple[int, int, int, int], dice: random.Random) -> None:
    """Pastes an emoji into a box of the picture, turned a little, and now and then mirrored."""
    left, top, right, bottom = box
    whole, turned = sprite(sign), dice.random() < 0.5
    scale = (right - left) / max(whole.size) * (ROOM if turned else 1)
    size = max(1, round(whole.width * scale)), max(1, round(whole.height * scale))
    drawn = whole.resize(size, Image.Resampling.BILINEAR)
    if dice.random() < 0.3:
        drawn = drawn.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if turned:
        drawn = drawn.rotate(dice.uniform(-18, 18), Image.Resampling.BICUBIC, expand=True)
    place = (left + right - drawn.width) // 2, (top + bottom - drawn.height) // 2
    picture.paste(drawn, place, drawn)
