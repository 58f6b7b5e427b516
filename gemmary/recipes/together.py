"""The last stage of nano: all that was learnt in turns is asked together, and the tower learns on.

A model that reads collages for an hour forgets its text, and one that talks for an hour forgets the names.
So each batch has collages read aloud, pictures with questions, wide and tall pages in crops, and
conversations without pictures, until the learning rate has fallen to nothing.
"""

from __future__ import annotations

import bisect
import functools
import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..inputs.crops import Box, PanAndScan
from ..inputs.views import look
from ..model.modules import TextModule
from ..model.vision_modules import TowerModule
from ..ops.contract import Ints
from ..train.loop import Plan
from ..train.packing import Document, pack_rows
from ..train.pictures import Pictures
from ..train.sight_task import SightTask
from .pictures import Gallery, Kind, fonts
from .pictures.drawn import Plan as Known
from .results import Weights
from .sight import Seeing, Talk, asked_of, learnt, mixed, taken

STRIPS = ("banner", "roll")  # kinds that pan & scan cuts
SHARES = (  # small print is learnt slowly, so it comes more often than the gallery has it
    Kind("scene", 0.24), Kind("word", 0.18), Kind("number", 0.08), Kind("receipt", 0.12), Kind("table", 0.10),
    Kind("notice", 0.09), Kind("ticket", 0.07), Kind("terminal", 0.06), Kind("banner", 0.03),
    Kind("roll", 0.03),
)  # fmt: skip
DRILLED = (  # what was still misread after that: small print between other small print, and crops
    Kind("scene", 0.14), Kind("word", 0.14), Kind("number", 0.04), Kind("receipt", 0.13), Kind("table", 0.17),
    Kind("notice", 0.08), Kind("ticket", 0.05), Kind("terminal", 0.07), Kind("banner", 0.09),
    Kind("roll", 0.09),
)  # fmt: skip
KEPT = 8  # pictures whose views are still in memory


@dataclass(frozen=True)
class Mixing:
    """`pictures` of the gallery, `shares` of them of each kind; between them `collages` of each of `kinds`.

    `described`: share of pictures that are also described as a whole. `cut`: of the strips, by pan & scan.
    `text_share`: of all tokens, in conversations without pictures.
    """

    plan: Plan
    pictures: int
    collages: int
    tiles: int = 16_000  # of each kind
    kinds: tuple[tuple[str, int], ...] = (("thing", 4), ("letters", 4), ("sign", 4), ("label", 2))
    shares: tuple[Kind, ...] = SHARES
    described: float = 0.7
    cut: float = 0.5
    text_share: float = 0.3


class View(NamedTuple):
    """A picture as a whole, or a crop of it, which is what pan & scan shows as number `place`."""

    number: int
    kind: str
    place: int


class Views:
    """Views of pictures of a gallery, in squares of `side` pixels, as `train/` wants pictures."""

    def __init__(self, gallery: Gallery, views: Sequence[View], side: int) -> None:
        self.gallery, self.views, self.side = gallery, views, side
        self._looked = functools.lru_cache(KEPT)(self._look)

    def __len__(self) -> int:
        return len(self.views)

    @property
    def digest(self) -> str:
        """Of what decides how pictures look: which they are, and the fonts that are installed."""
        what = [self.gallery.seed, self.gallery.held, self.side, self.views, fonts.report()]
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()

    def read(self, numbers: Ints) -> npt.NDArray[np.uint8]:
        """Pixels [n, 3, S, S]."""
        found = np.empty((len(numbers), 3, self.side, self.side), np.uint8)
        for place, number in enumerate(numbers):
            view = self.views[int(number)]
            found[place] = self._looked(view.number, view.kind)[view.place]
        return found

    def _look(self, number: int, kind: str) -> npt.NDArray[np.uint8]:
        """The whole picture and its crops, [1 + crops, 3, S, S]."""
        return look(self.gallery.draw(number, kind).picture, self.side, PanAndScan()).pixels


class Joined:
    """Several sets of pictures as one: the numbers of a set begin behind those of the set before it."""

    def __init__(self, *sets: Pictures) -> None:
        self.sets = sets
        self.begins = [sum(map(len, sets[:number])) for number in range(len(sets))]

    def __len__(self) -> int:
        return sum(map(len, self.sets))

    @property
    def digest(self) -> str:
        """Of all sets."""
        return hashlib.sha256(" ".join(each.digest for each in self.sets).encode()).hexdigest()

    def read(self, numbers: Ints) -> npt.NDArray[np.uint8]:
        """Pixels [n, 3, S, S], in the order of `numbers`, of which rows that are all text have none."""
        none = self.sets[0].read(numbers[:0])
        return np.concatenate([none, *(self._read(int(number)) for number in numbers)])

    def _read(self, number: int) -> npt.NDArray[np.uint8]:
        which = bisect.bisect_right(self.begins, number) - 1
        found: npt.NDArray[np.uint8] = self.sets[which].read(
            np.array([number - self.begins[which]], np.int32)
        )
        return found


def learn_together(
    seeing: Seeing, text: TextModule, tower: TowerModule, how: Mixing, talk: Iterator[Document], stage: str
) -> bool:
    """Train both on everything; `talk` gives conversations without pictures. False if interrupted."""
    first = seeing.unseen(how.pictures).first
    folder = seeing.out / stage
    if taken(text, tower, folder):
        return True
    dice = random.Random(f"{seeing.gallery.seed} {stage}")
    plain, views = _conversations(seeing, how, range(first, first + how.pictures), dice)
    collages = seeing.collages(how.kinds, how.tiles, how.collages, seeing.gallery.seed)
    shown = [*plain, *seeing.readings(collages, range(len(collages)), dice, first=len(views))]
    dice.shuffle(shown)
    rows = pack_rows(mixed(shown, talk, how.text_share), seeing.row)
    pictures = Joined(Views(seeing.gallery, views, seeing.vision.image), collages)
    task = SightTask(text, tower, rows, pictures, how.plan)
    return learnt(text, tower, task, how.plan, folder)


def _conversations(
    seeing: Seeing, how: Mixing, numbers: range, dice: random.Random
) -> tuple[list[Document], list[View]]:
    """One about each picture, and the views that they show."""
    writer, views, documents = Talk(seeing.tokenizer, seeing.vision), list[View](), list[Document]()
    names, weights = [kind.name for kind in how.shares], [kind.share for kind in how.shares]
    for number, kind in zip(numbers, dice.choices(names, weights, k=len(numbers)), strict=True):
        known = seeing.gallery.plan(number, kind)
        cut = kind in STRIPS and dice.random() < how.cut
        count = 1 + len(crops_of(known)) if cut else 1
        own = range(len(views), len(views) + count)
        views += [View(number, kind, place) for place in range(count)]
        asked = asked_of(known, dice, 0.0 if cut else how.described)  # a long page has no room for all of it
        documents.append(writer.document(asked, own, seeing.row))
    return documents, views


def mean(one: Weights, other: Weights) -> Weights:
    """Halfway between two models, of which one came from the other by a little training.

    What each does better than the other is mostly kept (Wortsman et al. 2021, arXiv 2109.01903).
    """
    half = np.float32(0.5)
    return {name: half * values + half * other[name] for name, values in one.items()}


def crops_of(known: Known) -> list[Box]:
    """Where pan & scan will cut a picture."""
    return PanAndScan().boxes(*known.size)
