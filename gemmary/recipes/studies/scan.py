"""What pan & scan adds on long pictures (report, table 8)."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
from PIL import Image

from ...inputs.crops import PanAndScan
from ...inputs.views import look
from ...train.sigmoid_task import SigmoidModel
from ...train.zeroshot import probabilities
from ..collage import Tiles
from .figure import Figure, Point, Series, evenly
from .lab import Lab
from .resolution import ACROSS, AMONG, KINDS, MANY, Eyes
from .study import Findings, Points, Runs, Study, table

NAME = "scan"
SIDE = 128  # of the tower, in pixels
SHOWN = 3  # collages in a strip
SQUARE = 256  # pixels of each: no crop is smaller
OFF, ON = "the whole picture", "pan & scan"
THEIRS = (
    "Table 8, with pan & scan against without, 4-shot: DocVQA 81.0 against 72.8, InfoVQA 57.0 against "
    "44.1, TextVQA 60.8 against 58.9 at 4B; 90.4 against 85.6, 76.4 against 59.4, 70.2 against 68.6 at "
    "27B."
)
LIMITS = (
    "The tower alone: a name counts as found where some sixteenth of some view of the strip, the whole or a"
    " crop, likes it better than any sixteenth likes any of fifteen that are not shown. A model would have"
    " to put its views together itself. Strips are four times as long as wide, the shape that pan & scan is"
    " for; on squares it changes nothing by its own rule. Crops need not meet the tiles: a tile may lie"
    " across two."
)


class Strips:
    """Held-out collages in strips, wide and tall in turn, with room between them where the dice say."""

    def __init__(self, eyes: Eyes) -> None:
        self.eyes = eyes
        self.made: dict[str, list[tuple[Image.Image, list[str]]]] = {}

    def of(self, kind: str) -> list[tuple[Image.Image, list[str]]]:
        """Each strip, and the names of what it shows."""
        if kind not in self.made:
            tiles = self.eyes.tiles(kind, True, SQUARE)
            dice, many = np.random.default_rng(0), self.eyes.held // (SHOWN * ACROSS**2)
            self.made[kind] = [self._made(tiles.collages(SHOWN, ACROSS, dice), n) for n in range(many)]
        return self.made[kind]

    def _made(self, shown: Tiles, number: int) -> tuple[Image.Image, list[str]]:
        squares = [Image.fromarray(np.ascontiguousarray(p.transpose(1, 2, 0))) for p in shown.pixels]
        return _strip(squares, number), [phrases[0] for phrases in shown.phrases]

    def measure(self, variant: str, seed: int) -> Points:
        """Shares of the shown tiles whose name is found, by kind."""
        model = self.eyes.tower(SIDE, seed)
        scan = PanAndScan() if variant == ON else None
        return {kind: self._found(model, kind, scan) for kind in KINDS}

    def _found(self, model: SigmoidModel, kind: str, scan: PanAndScan | None) -> float:
        names = sorted({name for _, shown in self.of(kind) for name in shown})
        right = total = 0
        for number, (strip, shown) in enumerate(self.of(kind)):
            views = look(np.asarray(strip), SIDE, scan).pixels
            likely = probabilities(model, views, self.eyes.ids(names), ACROSS).max(0)
            order = np.random.default_rng(number).permutation(len(names))
            absent = [at for at in order if names[at] not in shown]
            most = likely[absent[: AMONG - 1]].max()
            right += sum(bool(likely[names.index(name)] > most) for name in shown)
            total += len(shown)
        return right / total


def _strip(squares: Sequence[Image.Image], number: int) -> Image.Image:
    """One square more of grey than there are squares, spread between them; every other strip is tall."""
    dice, length = random.Random(number), SQUARE * (SHOWN + 1)
    ends = [0, *sorted(dice.randint(0, SQUARE) for _ in squares)]
    wide = number % 2 == 0
    canvas = Image.new("RGB", (length, SQUARE) if wide else (SQUARE, length), (128, 128, 128))
    for at, (square, gap) in enumerate(zip(squares, ends[1:], strict=True)):
        start = at * SQUARE + gap
        canvas.paste(square, (start, 0) if wide else (0, start))
    return canvas


def study(lab: Lab, title: str, quick: bool) -> Study:
    """The towers of the study `resolution` at 128 pixels, on strips."""
    strips = Strips(Eyes(lab, quick))
    settings = {**strips.eyes.settings, "side": SIDE, "shown": SHOWN, "square": SQUARE}
    return Study(NAME, title, THEIRS, settings, (OFF, ON), strips.measure, find)


def find(runs: Runs) -> Findings:
    """How often names are found, with and without."""
    series = tuple(
        Series(
            kind,
            tuple(
                Point(at, s.mean, s.deviation)
                for at, v in enumerate((OFF, ON))
                for s in [runs.spread(v, kind)]
            ),
        )
        for kind in KINDS
    )
    chance = Series("chance", tuple(Point(at, 1 / AMONG) for at in range(2)), dashed=True)
    figure = Figure(
        "Names found in strips of three collages", "what the tower is shown", "share of names",
        (*series, chance), evenly((OFF, ON)),
    )  # fmt: skip
    lines = table(
        ("pictures", OFF, ON, "difference"),
        (
            (
                kind,
                *(f"{runs.spread(v, kind).mean:.3f}" for v in (OFF, ON)),
                runs.effect(ON, OFF, kind).said(),
            )
            for kind in KINDS
        ),
    )
    said = "; ".join(f"{MANY[kind]}: {runs.effect(ON, OFF, kind).said()}" for kind in KINDS)
    return Findings((figure,), (lines,), (f"With pan & scan, as a share of names: {said}.",), LIMITS)
