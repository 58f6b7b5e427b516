"""How many local layers a global one needs: 1:1, 3:1, 5:1, 7:1 (report, figure 3)."""

from __future__ import annotations

from dataclasses import asdict, replace

from .figure import Figure, Point, Series, evenly
from .lab import Lab, Schedule, toy
from .study import Findings, Points, Runs, Study, table

NAME = "ratio"
RATIOS = {"1:1": 2, "3:1": 4, "5:1": 6, "7:1": 8}  # every how manieth layer is global
THEIRS = (
    "Figure 3, read off: at 2B, against 1:1, perplexity changes by a little above 0 at 3:1, about -0.02 "
    'at 5:1 and about +0.03 at 7:1, on an axis of ±0.1; at 9B all are slightly below 0. "We observe '
    'minimal impact."'
)
LIMITS = (
    "A toy of 24 thin layers that has read a few hundred thousand tokens uses little of what is far away,"
    " so it could not show a loss that only a trained model has. What it can show: that the ratio does "
    "not disturb learning itself. The memory that the ratio saves is exact, and in the study `kv`."
)


def study(lab: Lab, title: str, quick: bool) -> Study:
    """24 layers, because 2, 4, 6 and 8 divide it: each ratio is exactly met."""
    row, window = (32, 8) if quick else (256, 16)
    schedule = Schedule(2 if quick else 160)
    config = toy(NAME, 24, 16 if quick else 32, window, row, lab.scale.vocabulary)

    def measure(variant: str, seed: int) -> Points:
        layers = tuple(range(RATIOS[variant] - 1, config.layers, RATIOS[variant]))
        of_ratio = replace(config, global_layers=layers)
        folder = lab.folder / NAME / f"{variant.replace(':', '-')}-{seed}"
        weights = lab.train(folder, of_ratio, row, schedule, seed)
        return {"nats a token": lab.loss(of_ratio, row, weights)}

    settings = {"model": asdict(config), "row": row, "schedule": asdict(schedule), "lab": asdict(lab.scale)}
    return Study(NAME, title, THEIRS, settings, tuple(RATIOS), measure, find)


def find(runs: Runs) -> Findings:
    """Losses against those of 1:1."""
    point, reference = "nats a token", "1:1"
    others = [ratio for ratio in RATIOS if ratio != reference]
    effects = {ratio: runs.effect(ratio, reference, point) for ratio in others}
    places = [Point(0, 0.0)] + [Point(n, effects[r].mean, effects[r].margin) for n, r in enumerate(others, 1)]
    figure = Figure(
        "Loss by local layers a global one, against 1:1", "local : global", "nats a token, difference",
        (Series("mean over seeds, and its 95 % margin", tuple(places)),), evenly(list(RATIOS)),
    )  # fmt: skip
    lines = table(
        ("local:global", "nats a token", "deviation over seeds", "against 1:1"),
        (
            (r, f"{s.mean:.4f}", f"{s.deviation:.4f}", effects[r].said(4) if r in effects else "")
            for r in RATIOS
            for s in [runs.spread(r, point)]
        ),
    )
    said = "; ".join(f"{ratio}: {effects[ratio].said(4)}" for ratio in others)
    return Findings((figure,), (lines,), (f"Against 1:1, in nats a token: {said}.",), LIMITS)
