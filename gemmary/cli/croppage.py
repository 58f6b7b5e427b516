"""`gemmary show --image`: what the model would see of a picture, crop by crop."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from ..config import VisionConfig
from ..errors import ImageError
from ..inputs.crops import Box, PanAndScan
from ..inputs.picture import read_picture
from ..weights.atomic import replacing
from .attachment import one_line
from .cropsheet import draw, encoded
from .terminal import printable
from .thumbnail import show

ROWS, COLUMNS = 16, 80  # of text, for the drawing in a terminal that can show it


def show_crops(path: Path, output: Path | None, cut: PanAndScan) -> None:
    """Print sizes, crops and tokens of the picture in a file; draw the crops to `output`."""
    try:
        picture = Image.fromarray(read_picture(path))
    except ImageError as fault:
        raise ImageError(f"{one_line(path.name)}: {fault}") from None
    boxes = cut.boxes(*picture.size)
    sheet = draw(picture, boxes)
    if output is not None:
        data = encoded(sheet, output)
        with replacing(output) as file:
            file.write(data)
    show(sheet, ROWS, COLUMNS)
    for label, value in [*_facts(picture.size, boxes), *([("drawn in", str(output))] if output else [])]:
        print(f"{one_line(label):14} {printable(value)}")


def _facts(size: tuple[int, int], boxes: list[Box]) -> list[tuple[str, str]]:
    vision, (width, height) = VisionConfig(), size
    views = len(boxes) + 1
    each = f": {vision.tokens} for each of {views} pictures, and a few for the words between" if boxes else ""
    return [
        ("picture", f"{width:,} x {height:,}, seen as {vision.image} x {vision.image}"),
        ("crops", f"{len(boxes)}, each seen as {vision.image} x {vision.image} too" if boxes else NONE),
        *((f"crop {number}", _crop(box)) for number, box in enumerate(boxes, 1)),
        ("tokens", f"{views * vision.tokens:,}{each}"),
    ]


NONE = "none: the picture is about square, or too small to be cut; --tiles 2 cuts any large one"


def _crop(box: Box) -> str:
    left, top, right, bottom = box
    return f"{right - left:,} x {bottom - top:,} pixels at {left:,}, {top:,}"
