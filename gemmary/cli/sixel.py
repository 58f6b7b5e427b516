"""Pictures as sixels, the way of DEC's VT340: six rows of pixels at a time, one colour after the other."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import numpy as np
import numpy.typing as npt
from PIL import Image

COLOURS = 128
BAND = 6  # rows that one character covers


def sixel(image: Image.Image) -> str:
    """`image` as one escape sequence. The cursor is left below it, or on its last row."""
    width, height = image.size
    flat = image.convert("RGB").quantize(COLOURS)
    palette = np.array(flat.getpalette() or [], np.uint8).reshape(-1, 3)
    numbers = np.asarray(flat)
    rows = -(-height // BAND) * BAND
    padded = np.full((rows, width), -1, np.int16)
    padded[:height] = numbers
    colours = "".join(_colour(number, palette[number]) for number in np.unique(numbers))
    bands = "-".join("$".join(_lines(padded[top : top + BAND])) for top in range(0, rows, BAND))
    return f'\x1bP0;1q"1;1;{width};{height}{colours}{bands}\x1b\\'


def _colour(number: int, rgb: npt.NDArray[np.uint8]) -> str:
    """A colour of the palette in percent."""
    red, green, blue = (round(int(value) * 100 / 255) for value in rgb)
    return f"#{number};2;{red};{green};{blue}"


def _lines(band: npt.NDArray[np.int16]) -> Iterator[str]:
    """The band [6, width], a line for each of its colours: a bit for each row, runs made short."""
    weights = 1 << np.arange(BAND)
    for number in np.unique(band[band >= 0]):
        bits = weights @ (band == number)
        yield f"#{number}" + "".join(_run(value, len(list(same))) for value, same in groupby(bits.tolist()))


def _run(bits: int, length: int) -> str:
    character = chr(63 + bits)
    return f"!{length}{character}" if length > 3 else character * length
