"""A drawing of the crops that pan & scan takes of a picture: borders, numbered in the order of the model."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from ..errors import PromptError
from ..inputs.crops import Box

SIDE = 1600  # pixels of the drawing's longer side, at most
PALE = 0.25  # of the picture is white, so that lines stand out
COLOURS = ("#d6336c", "#1971c2", "#2b8a3e", "#e8590c")  # of neighbours, never alike
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


def draw(picture: Image.Image, boxes: Sequence[Box]) -> Image.Image:
    """The picture with a border and a number for each crop; pale, and no larger than SIDE."""
    sheet = picture.convert("RGB")
    sheet.thumbnail((SIDE, SIDE))
    scale = max(sheet.size) / max(picture.size)
    sheet = Image.blend(sheet, Image.new("RGB", sheet.size, "white"), PALE)
    pen = ImageDraw.Draw(sheet)
    line = max(2, max(sheet.size) // 400)
    across = sum(top == boxes[0][1] for _, top, _, _ in boxes) if boxes else 1
    for number, box in enumerate(boxes):
        colour = COLOURS[(number + number // across * (across % 2 == 0)) % len(COLOURS)]
        left, top, right, bottom = (round(edge * scale) for edge in box)
        pen.rectangle((left, top, right - 1, bottom - 1), outline=colour, width=line)
        _number(pen, (left + 2 * line, top + 2 * line), f"{number + 1}", colour, 12 * line)
    return sheet


def encoded(sheet: Image.Image, path: Path) -> bytes:
    """The drawing in the format that the name of a file asks for; PromptError where it asks for none."""
    form = FORMATS.get(path.suffix.lower())
    if form is None:
        raise PromptError(f"{path}: name a file that ends with {', '.join(FORMATS)}")
    file = io.BytesIO()
    sheet.save(file, form)
    return file.getvalue()


def _number(pen: ImageDraw.ImageDraw, place: tuple[int, int], text: str, colour: str, size: int) -> None:
    """White on a label of the border's colour."""
    font = ImageFont.load_default(size)
    left, top, right, bottom = pen.textbbox(place, text, font=font)
    gap = size // 4
    label = (left, top, right + 2 * gap, bottom + 2 * gap)
    pen.rounded_rectangle(label, radius=gap, fill=colour)
    pen.text((place[0] + gap, place[1] + gap), text, fill="white", font=font)
