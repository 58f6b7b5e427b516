"""What the engine is asked to continue."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]  # RGB [height, width, 3]
Pixels = npt.NDArray[np.float32]  # [n, 3, S, S] in -1..1


@dataclass(frozen=True)
class Prompt:
    """Ids, <bos> included, and the pictures that they mention.

    pixels: float32 [n, 3, S, S] in -1..1, one for each run of soft tokens in `ids`, in order; None for text.
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


def _key(pixels: npt.NDArray[np.float32]) -> bytes:
    shape = f"pixels {pixels.dtype} {pixels.shape} ".encode()
    return hashlib.sha256(shape + np.ascontiguousarray(pixels).tobytes()).digest()
