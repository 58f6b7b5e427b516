"""What a tower loses when it sees pictures in fewer pixels (report, table 7)."""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from ...config import VisionConfig
from ...train.loop import Plan, Trainer
from ...train.optimizer import Learning
from ...train.sigmoid_task import Pairs, SigmoidModel, SigmoidTask
from ...train.zeroshot import probabilities
from ..collage import Tiles, drawn_tiles, truths
from ..network import new_pairing, new_tower
from ..pictures.gallery import Gallery
from .figure import Figure, Point, Series, evenly
from .lab import Lab, toy
from .study import Findings, Points, Runs, Study, table

NAME = "resolution"
SIDES = (32, 64, 128)
KINDS = ("thing", "letters")
MANY = {"thing": "things", "letters": "letters"}
ACROSS = 4  # tiles a side of a picture
AMONG = 16  # names, of which one is right
LONGEST = 10  # tokens of a phrase
THEIRS = (
    "Table 7, encoders of 256, 448 and 896 pixels with 256 tokens each, under a 2B model after a short "
    "training: DocVQA 31.9, 45.4, 59.8; InfoVQA 23.1, 31.6, 33.7; TextVQA 44.1, 53.5, 58.0."
)
LIMITS = (
    "The tower alone, by how often it picks the right name of a tile out of sixteen, not a model that answers"
    " questions; drawn things and one or two printed characters, sixteen to a picture, not the web. As in the"
    " report patches keep their size, so that fewer pixels are fewer patches, and less arithmetic too: at 32"
    " pixels one patch shows a whole tile."
)


class Eyes:
    """Towers of `lab` in several resolutions, from the same pictures: collages of tiles."""

    def __init__(self, lab: Lab, quick: bool) -> None:
        self.lab = lab
        self.trained, self.held = (24, 96) if quick else (4000, 320)  # tiles of each kind
        self.batch = 2 if quick else 16  # collages of a step
        self.steps = 2 if quick else 400
        self.eyes = VisionConfig(width=96, layers=3, heads=3, ffn=192, image=SIDES[0], patch=8, tokens=16)
        config = toy("phrases", 2, 64, LONGEST, LONGEST, lab.scale.vocabulary)
        self.reader = replace(config, global_layers=(0, 1))
        self.drawn: dict[tuple[str, bool, int], Tiles] = {}

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that the numbers depend on."""
        return {
            "tower": asdict(self.eyes), "reader": asdict(self.reader), "sides": SIDES, "kinds": KINDS,
            "tiles": [self.trained, self.held], "across": ACROSS, "step": self.batch, "steps": self.steps,
            "among": AMONG, "lab": asdict(self.lab.scale),
        }  # fmt: skip

    def tiles(self, kind: str, held: bool, side: int) -> Tiles:
        """The gallery's first tiles of a kind for pictures of `side` pixels; drawn once, and kept."""
        key = (kind, held, side)
        if key not in self.drawn:
            count = self.held if held else self.trained
            self.drawn[key] = drawn_tiles(Gallery(0, held), kind, count, side // ACROSS)
        return self.drawn[key]

    def measure(self, variant: str, seed: int) -> Points:
        """Shares of held-out tiles whose name is found, by kind."""
        side = int(variant.split()[0])
        model = self.tower(side, seed)
        return {kind: self._found(model, side, kind) for kind in KINDS}

    def tower(self, side: int, seed: int) -> SigmoidModel:
        """Trained on pictures of `side` pixels; made once, whichever study asks for it."""
        config = replace(self.eyes, image=side)
        tower = new_tower(config, config.width, seed)
        model = new_pairing(tower, self.reader, LONGEST, 96, -math.log(64), seed)
        plan = Plan(
            steps=self.steps, parts=1, workers=1, low=False, fuse=False, checkpoint_every=50, keep=1,
            seed=seed, learning=Learning(peak=3e-3, warmup=20, cooldown=self.steps // 2),
        )  # fmt: skip
        digest = hashlib.sha256(repr((side, seed, self.settings)).encode()).hexdigest()
        task = SigmoidTask(model, lambda step: self._pairs(side, seed, step), digest, plan)
        if not Trainer(task, plan, self.lab.folder / NAME / f"{side}-{seed}").run():
            raise KeyboardInterrupt
        return model

    def ids(self, phrases: list[str]) -> list[list[int]]:
        """Phrases as ids."""
        return [self.lab.tokenizer.encode(phrase)[:LONGEST] for phrase in phrases]

    def _pairs(self, side: int, seed: int, step: int) -> Pairs:
        """Collages of both kinds in turn; the same ones in every resolution."""
        dice = np.random.default_rng((seed, step))
        shown = self.tiles(KINDS[step % len(KINDS)], False, side).collages(self.batch, ACROSS, dice)
        said = sorted({phrase for phrases in shown.phrases for phrase in phrases})
        return Pairs(shown.pixels, self.ids(said), truths(shown.phrases, said), ACROSS)

    def _found(self, model: SigmoidModel, side: int, kind: str) -> float:
        """Each tile has `AMONG` different names to choose from, its own among them."""
        dice = np.random.default_rng(0)
        shown = self.tiles(kind, True, side).collages(self.held // ACROSS**2, ACROSS, dice)
        own = [phrases[0] for phrases in shown.phrases]
        names = sorted(set(own))
        likely = probabilities(model, shown.pixels, self.ids(names), ACROSS)
        right = 0
        for row, name in zip(likely, own, strict=True):
            others = [at for at in dice.permutation(len(names)) if names[at] != name][: AMONG - 1]
            right += bool((row[names.index(name)] > row[others]).all())
        return right / len(own)


def study(lab: Lab, title: str, quick: bool) -> Study:
    """One tower for each resolution and seed."""
    eyes = Eyes(lab, quick)
    variants = tuple(f"{side} pixels" for side in SIDES)
    return Study(NAME, title, THEIRS, eyes.settings, variants, eyes.measure, find)


def find(runs: Runs) -> Findings:
    """How often the name is found, and what doubling the resolution does."""
    names = [f"{side} pixels" for side in SIDES]
    series = [
        Series(kind, tuple(Point(at, s.mean, s.deviation) for at, name in enumerate(names)
                           for s in [runs.spread(name, kind)]))
        for kind in KINDS
    ]  # fmt: skip
    chance = Series("chance", tuple(Point(at, 1 / AMONG) for at in range(len(names))), dashed=True)
    figure = Figure(
        f"The right name out of {AMONG}, by resolution", "pixels along a side",
        "share of held-out tiles",
        (*series, chance), evenly([str(side) for side in SIDES]),
    )  # fmt: skip
    lines = table(
        ("resolution", *KINDS, *(f"{kind}, against {SIDES[0]} pixels" for kind in KINDS)),
        ([name, *(f"{runs.spread(name, kind).mean:.3f}" for kind in KINDS), *_against(runs, name, names[0])]
         for name in names),
    )  # fmt: skip
    said = "; ".join(f"{MANY[kind]}: {runs.effect(names[-1], names[0], kind).said()}" for kind in KINDS)
    sentence = f"With {SIDES[-1]} pixels instead of {SIDES[0]}, as a share of held-out tiles: {said}."
    return Findings((figure,), (lines,), (sentence,), LIMITS)


def _against(runs: Runs, name: str, reference: str) -> list[str]:
    if name == reference:
        return ["" for _ in KINDS]
    return [runs.effect(name, reference, kind).said() for kind in KINDS]
