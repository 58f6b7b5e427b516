"""Collages: pictures of 2 x 2 or 4 x 4 tiles, each of which belongs to phrases of its own.

Eyes that begin with whole scenes and pages have one vector to tell what is true of 64 patches, and learn
slowly which patch is to blame. A tile says one thing on few patches, and a picture of sixteen teaches sixteen
times. The tiles are drawn once and put together anew for every step.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..ops.contract import Ints
from ..train.pictures import decoded
from .pictures import Gallery

Phrases = Sequence[tuple[str, ...]]
PORTION = 500  # tiles that a process draws at a time
LIGHT, TINT = 0.25, 24  # how far contrast and colours of a tile are changed from one use to the next


class Tiles(NamedTuple):
    """Squares [N, 3, s, s], uint8, and what is true of each."""

    pixels: npt.NDArray[np.uint8]
    phrases: Phrases

    def collages(self, number: int, across: int, dice: np.random.Generator) -> Tiles:
        """`number` pictures of across x across tiles, and what is true of each tile, row by row."""
        chosen = dice.integers(len(self.pixels), size=(number, across, across))
        placed = tinted(self.pixels[chosen], dice).transpose(0, 3, 1, 4, 2, 5)  # [n, 3, row, y, column, x]
        side = across * self.pixels.shape[-1]
        pixels = np.ascontiguousarray(placed).reshape(number, 3, side, side)
        return Tiles(pixels, [self.phrases[int(tile)] for tile in chosen.ravel()])


class Collages:
    """`count` collages of each of `sets`, tiles and how many of them a side, as `train/` wants pictures.

    First the numbers of the first set, then those of the second, and on.
    """

    def __init__(self, sets: Sequence[tuple[Tiles, int]], count: int, seed: int) -> None:
        self.sets, self._count, self._seed = sets, count, seed

    def __len__(self) -> int:
        return len(self.sets) * self._count

    @property
    def digest(self) -> str:
        """Of all tiles, and of how they are put together."""
        each = []
        for tiles, across in self.sets:
            how = f"{across} {self._count} {self._seed} {tiles.phrases}".encode()
            each.append(hashlib.sha256(how + hashlib.sha256(tiles.pixels.data).digest()).hexdigest())
        return hashlib.sha256(" ".join(each).encode()).hexdigest()

    def names(self, number: int) -> list[str]:
        """What each tile of a collage is called first, row by row."""
        return [phrases[0] for phrases in self._made(number).phrases]

    def read(self, numbers: Ints) -> npt.NDArray[np.uint8]:
        """Pixels [n, 3, S, S]."""
        made = [self._made(int(number)).pixels for number in numbers]
        return np.concatenate(made or [self._made(0).pixels[:0]])

    def _made(self, number: int) -> Tiles:
        which, at = divmod(number, self._count)
        tiles, across = self.sets[which]
        return tiles.collages(1, across, np.random.default_rng((self._seed, at)))


def tinted(tiles: npt.NDArray[np.uint8], dice: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Tiles [..., 3, s, s] a little darker or lighter, and each colour a little stronger or weaker."""
    shape = (*tiles.shape[:-2], 1, 1)
    gain = dice.uniform(1 - LIGHT, 1 + LIGHT, (*shape[:-3], 1, 1, 1)).astype(np.float32)
    shift = dice.uniform(-TINT, TINT, shape).astype(np.float32)
    return np.clip((tiles - np.float32(128)) * gain + (128 + shift), 0, 255).astype(np.uint8)


def drawn_tiles(gallery: Gallery, kind: str, number: int, side: int) -> Tiles:
    """The first `number` pictures of a kind as tiles of `side` pixels."""
    portions = [range(first, min(first + PORTION, number)) for first in range(0, number, PORTION)]
    draw = partial(_portion, gallery, kind, side)
    if len(portions) == 1:
        return draw(portions[0])
    fresh = multiprocessing.get_context("spawn")  # a copy of this process would have its threads half
    with ProcessPoolExecutor(os.cpu_count(), fresh) as pool:
        drawn = list(pool.map(draw, portions))
    return Tiles(np.concatenate([d.pixels for d in drawn]), [said for d in drawn for said in d.phrases])


def _portion(gallery: Gallery, kind: str, side: int, numbers: range) -> Tiles:
    drawn = [gallery.draw(number, kind) for number in numbers]
    return Tiles(decoded([each.picture for each in drawn], side)[0].pixels, [each.phrases for each in drawn])


def truths(phrases: Phrases, chosen: Iterable[str]) -> npt.NDArray[np.bool_]:
    """Which of the phrases `chosen` are true of which pictures, [pictures, chosen]."""
    columns = {phrase: column for column, phrase in enumerate(chosen)}
    true = np.zeros((len(phrases), len(columns)), bool)
    for row, said in enumerate(phrases):
        true[row, [columns[phrase] for phrase in said if phrase in columns]] = True
    return true
