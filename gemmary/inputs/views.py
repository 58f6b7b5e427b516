"""A picture as the model sees it: the whole and its crops, each squeezed into a square of S x S pixels.

Equal to transformers' Gemma3ImageProcessor with Pillow, bit for bit: the same filter, and, once `brightness`
is asked (prompt.py), the same two roundings. The shape of the picture is not kept; pan & scan is for that.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from .crops import Box, PanAndScan
from .picture import read_picture
from .prompt import Picture


@dataclass(frozen=True)
class Views:
    """pixels: uint8 [1 + crops, 3, S, S], the whole picture first. keys: 32 bytes for each."""

    pixels: npt.NDArray[np.uint8]
    keys: tuple[bytes, ...]


@dataclass(frozen=True)
class Cut:
    """A picture that is decoded, and where it will be cut: the whole first."""

    picture: Picture
    boxes: list[Box]

    def views(self, side: int) -> Views:
        """All boxes as squares of `side` pixels."""
        image, digest = Image.fromarray(self.picture), digest_of(self.picture)
        pixels = np.empty((len(self.boxes), 3, side, side), np.uint8)
        for box, planes in zip(self.boxes, pixels, strict=True):
            square = image.crop(box).resize((side, side), Image.Resampling.BILINEAR)
            planes[:] = np.asarray(square).transpose(2, 0, 1)
        keys = (hashlib.sha256(digest + struct.pack("<5I", side, *box)).digest() for box in self.boxes)
        return Views(pixels, tuple(keys))


def cut(source: object, pan_and_scan: PanAndScan | None = None) -> Cut:
    """`source`, anything that `read_picture` reads, and its boxes. ImageError."""
    picture = read_picture(source)
    height, width = picture.shape[:2]
    return Cut(picture, [(0, 0, width, height), *(pan_and_scan.boxes(width, height) if pan_and_scan else ())])


def look(source: object, side: int, pan_and_scan: PanAndScan | None = None) -> Views:
    """`source`, anything that `read_picture` reads, as squares of `side` pixels. ImageError."""
    return cut(source, pan_and_scan).views(side)


def digest_of(picture: Picture) -> bytes:
    """32 bytes that stand for a decoded picture. Its shape counts: 30 x 100 is not 100 x 30."""
    height, width, _ = picture.shape
    digest = hashlib.sha256(f"picture 1 RGB {width} {height} ".encode())
    digest.update(np.ascontiguousarray(picture).data)
    return digest.digest()
