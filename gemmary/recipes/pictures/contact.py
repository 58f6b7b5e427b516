"""A contact sheet: many pictures on one, each above what is said of it."""

from __future__ import annotations

from PIL import Image, ImageDraw

from .drawn import Drawn
from .fonts import families

SIDE, EDGE, LINE, LINES = 224, 6, 12, 6


def contact(drawn: list[Drawn], across: int = 6, words: bool = True) -> Image.Image:
    """Pictures in rows, each fitted into 224 x 224 pixels, with its caption and questions below."""
    below = LINE * LINES * words
    down = -(-len(drawn) // across)
    size = across * (SIDE + EDGE) + EDGE, down * (SIDE + below + EDGE) + EDGE
    whole = Image.new("RGB", size, (90, 90, 90))
    for i, each in enumerate(drawn):
        left, top = EDGE + i % across * (SIDE + EDGE), EDGE + i // across * (SIDE + below + EDGE)
        small = each.picture.copy()
        small.thumbnail((SIDE, SIDE))
        whole.paste(small, (left, top))
        if words:
            _write(ImageDraw.Draw(whole), each, left, top + SIDE)
    return whole


def _write(draw: ImageDraw.ImageDraw, drawn: Drawn, left: int, top: int) -> None:
    lines = [drawn.caption, *(f"{question} {answer}" for question, answer in drawn.exchanges)]
    font = families(held=False)[0].at(9)
    for i, line in enumerate(lines[:LINES]):
        draw.text((left, top + i * LINE), line[:46], (255, 255, 255), font)
