"""What rescaling the global layers' positions does, by position (report, section 5.3 and figure 7)."""

from __future__ import annotations

from dataclasses import asdict

from ...config import Config
from ...train.positions import doubling, loss_by_position
from ..long import FACTOR, lengthened
from ..network import decoder
from ..results import Weights
from .effect import effect
from .figure import Figure, Point, Series
from .lab import Lab, Schedule, toy
from .study import Findings, Points, Runs, Study, table

NAME = "rope"
BEFORE, RESCALED, TRAINED, CONTROL = (
    "short context", "rescaled by 8, not trained", "rescaled by 8, trained on long rows",
    "not rescaled, trained on long rows",
)  # fmt: skip
THEIRS = (
    "Figure 7, read off: before rescaling, perplexity explodes past the 32K tokens of pre-training (12B);"
    " after rescaling by 8 and a short phase, models generalise to 128K and degrade quickly beyond it."
)
LIMITS = (
    "One layer of six is global, and a model that has read a few hundred thousand tokens hardly uses what"
    " is far away: what the curves show is whether far positions disturb it, not whether it profits from "
    "them."
)


class Stages:
    """The stages of one seed; each is trained once, whichever variant asks for it."""

    def __init__(self, lab: Lab, quick: bool) -> None:
        self.lab = lab
        self.row = 32 if quick else 256
        self.long_row, self.measured = 4 * self.row, 16 * self.row
        self.first, self.second = (
            (Schedule(2), Schedule(1)) if quick else (Schedule(200), Schedule(40, peak=3e-3))
        )
        self.config = toy(NAME, 6, 16 if quick else 48, self.row // 8, self.row, lab.scale.vocabulary)
        self.long = lengthened(self.config, FACTOR, self.long_row)
        self.unscaled = lengthened(self.config, 1.0, self.long_row)
        self.edges = doubling(self.row // 4, self.measured)

    def measure(self, variant: str, seed: int) -> Points:
        """Loss by position in held-out books."""
        config, weights = self.model(variant, seed)
        held = self.lab.held(self.measured)
        found = loss_by_position(decoder(config, weights, self.measured), held, self.edges)
        return {f"{bucket.first}-{bucket.last}": bucket.loss for bucket in found}

    def model(self, variant: str, seed: int) -> tuple[Config, Weights]:
        """What is measured: a config and weights."""
        folder = self.lab.folder / NAME / f"seed-{seed}"
        weights = self.lab.train(folder / "short", self.config, self.row, self.first, seed)
        if variant == BEFORE:
            return self.config, weights
        if variant == RESCALED:
            return self.long, weights
        name, config = ("long", self.long) if variant == TRAINED else ("unscaled", self.unscaled)
        return config, self.lab.train(folder / name, config, self.long_row, self.second, seed, start=weights)


def study(lab: Lab, title: str, quick: bool) -> Study:
    """Rows of 256 tokens, then of 1,024; measured up to 4,096."""
    stages = Stages(lab, quick)
    settings = {
        "model": asdict(stages.config), "row": stages.row, "long row": stages.long_row,
        "measured": stages.measured, "schedule": asdict(stages.first), "long schedule": asdict(stages.second),
        "lab": asdict(lab.scale),
    }  # fmt: skip
    variants = (BEFORE, RESCALED, TRAINED, CONTROL)
    return Study(NAME, title, THEIRS, settings, variants, stages.measure, lambda runs: find(runs, stages))


def find(runs: Runs, stages: Stages) -> Findings:
    """Four curves, and what differs past the short context."""
    names = runs.points(BEFORE)
    series = tuple(
        Series(
            variant,
            tuple(
                Point(at, s.mean, s.deviation)
                for at, name in enumerate(names)
                for s in [runs.spread(variant, name)]
            ),
        )
        for variant in (BEFORE, RESCALED, TRAINED, CONTROL)
    )
    ticks = tuple((float(at), name) for at, name in enumerate(names))
    figure = Figure(
        "Loss by position in held-out books", "position in the text", "nats a token", series, ticks
    )
    lines = table(
        ("positions", *(s.name for s in series)),
        (
            (name, *(f"{s.points[at].y:.3f} ± {s.points[at].error:.3f}" for s in series))
            for at, name in enumerate(names)
        ),
    )
    return Findings((figure,), (lines,), tuple(_said(runs, names, stages)), LIMITS)


def _said(runs: Runs, names: list[str], stages: Stages) -> list[str]:
    within = next(name for name in names if name.endswith(f"-{stages.row}"))
    last = names[-1]

    def against(variant: str, reference: str) -> str:
        ends = (f"at {name} {runs.effect(variant, reference, name).said(4)}" for name in (within, last))
        return ", ".join(ends)

    return [
        "In nats a token: "
        f"short context only, positions {last} against {within}: {_grown(runs, BEFORE, last, within)};",
        f"rescaling against none, both trained on long rows: {against(TRAINED, CONTROL)};",
        f"rescaling alone, without training, against none: {against(RESCALED, BEFORE)};",
        f"rescaled and trained, against short context only: {against(TRAINED, BEFORE)}.",
    ]


def _grown(runs: Runs, variant: str, last: str, within: str) -> str:
    return effect(runs.values(variant, last), runs.values(variant, within)).said(4)
