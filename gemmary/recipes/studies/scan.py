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
from ..pictures.gallery import Gallery
from .figure import Figure, Point, Series, evenly
from .lab import Lab
from .resolution import AMONG, KINDS, Eyes
from .study import Findings, Points, Runs, Study, table

NAME = "scan"
SIDE = 64  # of the tower, in pixels
SHOWN = 3  # pictures in a strip
SQUARE = 256  # pixels of each: no crop is smaller
OFF, ON = "the whole picture", "pan & scan"
THEIRS = (
    "Table 8, with pan & scan against without, 4-shot: DocVQA 81.0 against 72.8, InfoVQA 57.0 against "
    "44.1, TextVQA 60.8 against 58.9 at 4B; 90.4 against 85.6, 76.4 against 59.4, 70.2 against 68.6 at "
    "27B."
)
LIMITS = (
    "The tower alone: a caption counts as found where some view of the strip, the whole or a crop, likes "
    "it better than any of fifteen wrong ones. A model would have to put its views together itself. "
    "Strips are four times as long as wide, the shape that pan & scan is for; on squares it changes "
    "nothing by its own rule. The towers are those of the study `resolution`, which read nothing: numbers"
    " stay near chance, so that this neither confirms nor contradicts the report."
)


class Strips:
    """Held-out pictures in strips, wide and tall in turn, with room between them where the dice say."""

    def __init__(self, eyes: Eyes) -> None:
        self.eyes = eyes
        self.made: dict[str, list[Image.Image]] = {}

    def of(self, kind: str) -> list[Image.Image]:
        """Strip i shows the held-out pictures SHOWN * i and those behind it."""
        if kind not in self.made:
            gallery = Gallery(0, held=True)
            squares = [gallery.draw(n, kind).picture.resize((SQUARE, SQUARE)) for n in range(self.eyes.held)]
            groups = [squares[at : at + SHOWN] for at in range(0, len(squares) - SHOWN + 1, SHOWN)]
            self.made[kind] = [_strip(group, number) for number, group in enumerate(groups)]
        return self.made[kind]

    def measure(self, variant: str, seed: int) -> Points:
        """Shares of the shown pictures whose caption is found, by kind."""
        model = self.eyes.tower(SIDE, seed)
        scan = PanAndScan() if variant == ON else None
        return {kind: self._found(model, kind, scan) for kind in KINDS}

    def _found(self, model: SigmoidModel, kind: str, scan: PanAndScan | None) -> float:
        captions = self.eyes.pictures(kind, True).captions
        right = total = 0
        for number, strip in enumerate(self.of(kind)):
            first = SHOWN * number
            shown = captions[first : first + SHOWN]
            wrong = [c for c in (captions[first + SHOWN :] + captions) if c not in shown][: AMONG - 1]
            views = look(np.asarray(strip), SIDE, scan).pixels
            likely = probabilities(model, views, [*shown, *wrong]).max(0)
            right += int((likely[:SHOWN] > likely[SHOWN:].max()).sum())
            total += SHOWN
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
    """The towers of the study `resolution` at 64 pixels, on strips."""
    strips = Strips(Eyes(lab, quick))
    settings = {**strips.eyes.settings, "side": SIDE, "shown": SHOWN, "square": SQUARE}
    return Study(NAME, title, THEIRS, settings, (OFF, ON), strips.measure, find)


def find(runs: Runs) -> Findings:
    """How often captions are found, with and without."""
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
        "Captions found in strips of three pictures", "what the tower is shown", "share of captions",
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
    said = "; ".join(f"{kind}s: {runs.effect(ON, OFF, kind).said()}" for kind in KINDS)
    return Findings((figure,), (lines,), (f"With pan & scan, as a share of captions: {said}.",), LIMITS)
