"""A picture as the model sees it: the whole and its crops, each squeezed into a square of S x S pixels.

Equal to transformers' Gemma3ImageProcessor with Pillow, bit for bit: the same filter, and
the same two roundings of brightness. The shape of the picture is not kept; pan & scan is for that.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

import numpy as np
from PIL import Image

from .crops import PanAndScan
from .picture import read_picture
from .prompt import Picture, Pixels

# What each of 256 brightnesses becomes: x / 255 in double precision, then (x - 0.5) / 0.5 in single.
LEVELS = ((np.arange(256) * (1 / 255)).astype(np.float32) - np.float32(0.5)) / np.float32(0.5)


@dataclass(frozen=True)
class Views:
    """pixels: float32 [1 + crops, 3, S, S] in -1..1, the whole picture first. keys: 32 bytes for each."""

    pixels: Pixels
    keys: tuple[bytes, ...]


def look(source: object, side: int, pan_and_scan: PanAndScan | None = None) -> Views:
    """`source`, anything that `read_picture` reads, as squares of `side` pixels. ImageError."""
    picture = read_picture(source)
    height, width = picture.shape[:2]
    boxes = [(0, 0, width, height), *(pan_and_scan.boxes(width, height) if pan_and_scan else ())]
    image, digest = Image.fromarray(picture), digest_of(picture)
    pixels = np.empty((len(boxes), 3, side, side), np.float32)
    for box, planes in zip(boxes, pixels, strict=True):
        square = image.crop(box).resize((side, side), Image.Resampling.BILINEAR)
        np.take(LEVELS, np.asarray(square).transpose(2, 0, 1), out=planes, mode="clip")
    keys = (hashlib.sha256(digest + struct.pack("<5I", side, *box)).digest() for box in boxes)
    return Views(pixels, tuple(keys))


def digest_of(picture: Picture) -> bytes:
    """32 bytes that stand for a decoded picture. Its shape counts: 30 x 100 is not 100 x 30."""
    height, width, _ = picture.shape
    digest = hashlib.sha256(f"picture 1 RGB {width} {height} ".encode())
    digest.update(np.ascontiguousarray(picture).data)
    return digest.digest()
