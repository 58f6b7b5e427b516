"""What the engine is asked to continue."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]  # RGB [height, width, 3]
Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.float32]  # [n, 3, S, S], 0..255 or -1..1

# What each of 256 brightnesses becomes: x / 255 in double precision, then (x - 0.5) / 0.5 in single.
LEVELS = ((np.arange(256) * (1 / 255)).astype(np.float32) - np.float32(0.5)) / np.float32(0.5)


def brightness(pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """float32 in -1..1, as a tower wants it; what is not uint8 is so already."""
    found: npt.NDArray[np.float32] = LEVELS[pixels] if pixels.dtype == np.uint8 else pixels
    return found


@dataclass(frozen=True)
class Prompt:
    """Ids, <bos> included, and the pictures that they mention.

    pixels: uint8 [n, 3, S, S], or float32 in -1..1, one for each run of soft tokens in `ids`, in order; None
    for text. Prompts made from messages have uint8, a quarter of the memory: see `brightness`.
    keys: 32 bytes for each of the n: pictures with the same key have the same pixels. Prompts made from
    messages take them from the decoded picture; where none are given, from the pixels.
    """

    ids: list[int]
    pixels: Pixels | None = field(default=None, compare=False, repr=False)  # `keys` stand for them
    keys: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        pictures = 0 if self.pixels is None else len(self.pixels)
        if self.pixels is not None and not self.keys:
            object.__setattr__(self, "keys", tuple(map(_key, self.pixels)))
        if len(self.keys) != pictures:
            raise ValueError(f"{pictures} pictures need as many keys, not {len(self.keys)}")


def _key(pixels: npt.NDArray[Any]) -> bytes:
    shape = f"pixels {pixels.dtype} {pixels.shape} ".encode()
    return hashlib.sha256(shape + np.ascontiguousarray(pixels).tobytes()).digest()
