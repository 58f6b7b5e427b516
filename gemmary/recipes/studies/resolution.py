"""What a tower loses when it sees pictures in fewer pixels (report, table 7)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from ...config import VisionConfig
from ...inputs.views import look
from ...model.vision_modules import TowerModule
from ...ops.trainable import Trainable
from ...train.initial import initialise_sigmoid, initialise_tower
from ...train.loop import Plan, Trainer
from ...train.optimizer import Learning
from ...train.pictures import Pixels
from ...train.sigmoid_task import Pairs, SigmoidModel, SigmoidTask, TextEncoder
from ...train.zeroshot import probabilities
from ..pictures.gallery import Gallery
from .figure import Figure, Point, Series, evenly
from .lab import Lab, toy
from .study import Findings, Points, Runs, Study, table

NAME = "resolution"
SIDES = (32, 64, 128)
KINDS = ("scene", "number")
AMONG = 16  # captions, of which one is right
LONGEST = 40  # tokens of a caption
THEIRS = (
    "Table 7, encoders of 256, 448 and 896 pixels with 256 tokens each, under a 2B model after a short "
    "training: DocVQA 31.9, 45.4, 59.8; InfoVQA 23.1, 31.6, 33.7; TextVQA 44.1, 53.5, 58.0."
)
LIMITS = (
    "The tower alone, by how often it picks the right caption of a held-out picture out of sixteen, not a"
    " model that answers questions; a few thousand generated pictures, not the web. As in the report "
    "patches keep their size, so that fewer pixels are fewer patches, and less arithmetic too. Towers of "
    "120 steps tell scenes by colour and count and read nothing: numbers stay near chance, which is 1 in "
    "16. What the report measures is reading, and so this neither confirms nor contradicts it."
)


@dataclass(frozen=True)
class Seen:
    """Pictures in each resolution, uint8 [n, 3, S, S], and their captions as ids."""

    pixels: Mapping[int, Pixels]
    captions: list[list[int]]


class Eyes:
    """Towers of `lab` in several resolutions, from the same pictures."""

    def __init__(self, lab: Lab, quick: bool) -> None:
        self.lab = lab
        self.trained, self.held = (12, AMONG) if quick else (800, 128)  # pictures of each kind
        self.half = 4 if quick else 12  # of each kind in a step
        self.steps = 2 if quick else 120
        self.eyes = VisionConfig(width=64, layers=3, heads=2, ffn=128, image=SIDES[0], patch=8, tokens=16)
        config = toy("captions", 2, 64, LONGEST, LONGEST, lab.scale.vocabulary)
        self.reader = replace(config, global_layers=(0, 1))
        self.seen: dict[tuple[str, bool], Seen] = {}

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that the numbers depend on."""
        return {
            "tower": asdict(self.eyes), "reader": asdict(self.reader), "sides": SIDES, "kinds": KINDS,
            "pictures": [self.trained, self.held], "step": 2 * self.half, "steps": self.steps,
            "among": AMONG, "lab": asdict(self.lab.scale),
        }  # fmt: skip

    def pictures(self, kind: str, held: bool) -> Seen:
        """The gallery's first pictures of a kind; drawn once, and kept."""
        if (kind, held) not in self.seen:
            self.seen[kind, held] = self._drawn(kind, held)
        return self.seen[kind, held]

    def _drawn(self, kind: str, held: bool) -> Seen:
        count = self.held if held else self.trained
        gallery = Gallery(0, held)
        path = self.lab.folder / NAME / f"{kind}-{'held' if held else 'trained'}-{count}.safetensors"
        if not path.exists():
            drawn = [np.asarray(gallery.draw(n, kind).picture) for n in range(count)]
            squares = {str(side): np.concatenate([look(one, side).pixels for one in drawn]) for side in SIDES}
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file(squares, path)
        arrays = load_file(path)
        pixels = {side: arrays[str(side)] for side in SIDES}
        captions = [gallery.draw(n, kind).caption for n in range(count)]
        return Seen(pixels, [self.lab.tokenizer.encode(caption)[:LONGEST] for caption in captions])

    def measure(self, variant: str, seed: int) -> Points:
        """Shares of held-out pictures whose caption is found, by kind."""
        side = int(variant.split()[0])
        model = self.tower(side, seed)
        return {kind: self._found(model, side, kind) for kind in KINDS}

    def tower(self, side: int, seed: int) -> SigmoidModel:
        """Trained on pictures of `side` pixels; made once, whichever study asks for it."""
        config = replace(self.eyes, image=side)
        tower = TowerModule(config, config.width, Trainable(config.patches, (None,)))
        initialise_tower(tower, seed)
        model = SigmoidModel(tower, TextEncoder(self.reader, LONGEST, 64), bias=-math.log(2 * self.half))
        initialise_sigmoid(model, seed)
        plan = Plan(
            steps=self.steps, parts=1, workers=1, low=False, fuse=False, checkpoint_every=50, keep=1,
            seed=seed, learning=Learning(peak=4e-3, warmup=10, cooldown=self.steps // 2),
        )  # fmt: skip
        digest = hashlib.sha256(repr((side, seed, self.settings)).encode()).hexdigest()
        task = SigmoidTask(model, lambda step: self._pairs(side, seed, step), digest, plan)
        if not Trainer(task, plan, self.lab.folder / NAME / f"{side}-{seed}").run():
            raise KeyboardInterrupt
        return model

    def _pairs(self, side: int, seed: int, step: int) -> Pairs:
        """As many of each kind; the same pictures in every resolution."""
        dice = np.random.default_rng((seed, step))
        chosen = [(self.pictures(kind, False), dice.permutation(self.trained)[: self.half]) for kind in KINDS]
        pixels = np.concatenate([seen.pixels[side][numbers] for seen, numbers in chosen])
        return Pairs(pixels, [seen.captions[n] for seen, numbers in chosen for n in numbers])

    def _found(self, model: SigmoidModel, side: int, kind: str) -> float:
        """Pictures go in groups of `AMONG`: each has the others' captions to choose from."""
        seen = self.pictures(kind, True)
        right = 0
        for first in range(0, self.held, AMONG):
            captions = seen.captions[first : first + AMONG]
            likely = probabilities(model, seen.pixels[side][first : first + AMONG], captions)
            right += sum(captions[best] == captions[at] for at, best in enumerate(likely.argmax(1)))
        return right / self.held


def study(lab: Lab, title: str, quick: bool) -> Study:
    """One tower for each resolution and seed."""
    eyes = Eyes(lab, quick)
    variants = tuple(f"{side} pixels" for side in SIDES)
    return Study(NAME, title, THEIRS, eyes.settings, variants, eyes.measure, find)


def find(runs: Runs) -> Findings:
    """How often the caption is found, and what doubling the resolution does."""
    names = [f"{side} pixels" for side in SIDES]
    series = [
        Series(kind, tuple(Point(at, s.mean, s.deviation) for at, name in enumerate(names)
                           for s in [runs.spread(name, kind)]))
        for kind in KINDS
    ]  # fmt: skip
    chance = Series("chance", tuple(Point(at, 1 / AMONG) for at in range(len(names))), dashed=True)
    figure = Figure(
        f"The right caption out of {AMONG}, by resolution", "pixels along a side",
        "share of held-out pictures",
        (*series, chance), evenly([str(side) for side in SIDES]),
    )  # fmt: skip
    lines = table(
        ("resolution", *KINDS, *(f"{kind}, against {SIDES[0]} pixels" for kind in KINDS)),
        ([name, *(f"{runs.spread(name, kind).mean:.3f}" for kind in KINDS), *_against(runs, name, names[0])]
         for name in names),
    )  # fmt: skip
    said = "; ".join(f"{kind}s: {runs.effect(names[-1], names[0], kind).said()}" for kind in KINDS)
    sentence = f"With {SIDES[-1]} pixels instead of {SIDES[0]}, as a share of held-out pictures: {said}."
    return Findings((figure,), (lines,), (sentence,), LIMITS)


def _against(runs: Runs, name: str, reference: str) -> list[str]:
    if name == reference:
        return ["" for _ in KINDS]
    return [runs.effect(name, reference, kind).said() for kind in KINDS]
