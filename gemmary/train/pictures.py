"""Pictures of training, by number: where a task gets pixels, or what a frozen tower made of them."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..errors import ImageError
from ..inputs.views import look
from ..ops.contract import Ints
from .packing import Document

Pixels = npt.NDArray[Any]  # uint8 [n, 3, S, S], or float32 in -1..1


class Pictures(Protocol):
    """Pictures, or features of them, as long as the numbers in `Rows.pictures` go."""

    @property
    def digest(self) -> str:
        """A run goes on only with the pictures that it began with."""
        ...

    def __len__(self) -> int: ...

    def read(self, numbers: Ints) -> npt.NDArray[Any]:
        """Those with these numbers: pixels [n, 3, S, S], or pooled features [n, tokens, D].

        n is 0 for rows that are all text.
        """
        ...


class PictureArray:
    """Pixels in memory, or mapped from a file by `np.load(path, mmap_mode="r")`: [N, 3, S, S].

    `digest` names them; by default it is made from all of them.
    """

    def __init__(self, pixels: Pixels, digest: str | None = None) -> None:
        self.pixels = pixels
        self.digest = digest or hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, numbers: Ints) -> Pixels:
        """Pixels [n, 3, S, S]."""
        found: Pixels = self.pixels[numbers]
        return found


def decoded(sources: Sequence[object], side: int) -> tuple[PictureArray, dict[int, str]]:
    """Whatever `read_picture` reads, as squares of `side` pixels; and what is wrong, by number.

    One that does not decode is black here, so that the others keep their numbers: see `unbroken`.
    """
    pixels, broken = np.zeros((len(sources), 3, side, side), np.uint8), {}
    for number, source in enumerate(sources):
        try:
            pixels[number] = look(source, side).pixels[0]
        except ImageError as error:
            broken[number] = str(error)
    return PictureArray(pixels), broken


def unbroken(documents: Iterable[Document], broken: Container[int]) -> list[Document]:
    """The documents that show none of these pictures."""
    return [
        document
        for document in documents
        if not any(picture in broken for picture in document.pictures or () if picture >= 0)
    ]
