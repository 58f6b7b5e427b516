"""How short the window of local layers may be (report, figure 4)."""

from __future__ import annotations

from dataclasses import asdict, replace

from .figure import Figure, Point, Series, evenly
from .lab import Lab, Schedule, toy
from .study import Findings, Points, Runs, Study, table

NAME = "window"
SHARES = (64, 32, 16, 8)  # of the row: a window is row / share
RATIOS = {"1:1": 2, "3:1": 4}
THEIRS = (
    "Figure 4, read off: windows of 512, 1024, 2048 and 4096 tokens change the perplexity of a 2B model "
    'by less than about 0.02 at 1:1 and at 3:1 (3:1 at 512: about -0.019). "The sliding window can be '
    'reduced significantly without impacting perplexity."'
)
LIMITS = (
    "Windows keep their share of the text, not their length: a sixteenth of 512 tokens is 32. A toy "
    "learns mostly from the nearest words, so a window of a few of them is the one place where a cost "
    "must show."
)


def study(lab: Lab, title: str, quick: bool) -> Study:
    """8 layers, rows of 512 tokens; the shortest window is 8 tokens."""
    row = 64 if quick else 512
    schedule = Schedule(2 if quick else 80)
    config = toy(NAME, 8, 16 if quick else 48, 8, row, lab.scale.vocabulary)

    def measure(variant: str, seed: int) -> Points:
        ratio, _, share = variant.partition(" ")
        layers = tuple(range(RATIOS[ratio] - 1, config.layers, RATIOS[ratio]))
        window = max(1, row // int(share.removeprefix("1/")))
        of_variant = replace(config, global_layers=layers, window=window)
        folder = lab.folder / NAME / f"{variant.translate(_NAMES)}-{seed}"
        weights = lab.train(folder, of_variant, row, schedule, seed)
        return {POINT: lab.loss(of_variant, row, weights)}

    settings = {"model": asdict(config), "row": row, "schedule": asdict(schedule), "lab": asdict(lab.scale)}
    variants = tuple(_variant(ratio, share) for ratio in RATIOS for share in SHARES)
    return Study(NAME, title, THEIRS, settings, variants, measure, find)


POINT = "nats a token"
_NAMES = str.maketrans(":/ ", "---")


def _variant(ratio: str, share: int) -> str:
    return f"{ratio} 1/{share}"


def find(runs: Runs) -> Findings:
    """Losses against those of the longest window, for each ratio."""
    shortest, *_, longest = SHARES
    series, lines, said = [], [], []
    for ratio in RATIOS:
        places = []
        for at, share in enumerate(SHARES):
            spread = runs.spread(_variant(ratio, share), POINT)
            cells = [ratio, f"1/{share}", f"{spread.mean:.4f}", f"{spread.deviation:.4f}"]
            if share == longest:
                places.append(Point(at, 0.0))
                lines.append([*cells, ""])
                continue
            effect = runs.effect(_variant(ratio, share), _variant(ratio, longest), POINT)
            places.append(Point(at, effect.mean, effect.margin))
            lines.append([*cells, effect.said(4)])
        series.append(Series(f"{ratio}, and its 95 % margin", tuple(places)))
        effect = runs.effect(_variant(ratio, shortest), _variant(ratio, longest), POINT)
        said.append(
            f"at {ratio}, a window of 1/{shortest} of the text instead of 1/{longest}: {effect.said(4)}"
        )
    figure = Figure(
        f"Loss by window, against 1/{longest} of the text", "window, as a share of the text",
        "nats a token, difference", tuple(series), evenly([f"1/{share}" for share in SHARES]),
    )  # fmt: skip
    head = ("local:global", "window", "nats a token", "deviation over seeds", f"against 1/{longest}")
    return Findings((figure,), (table(head, iter(lines)),), (f"In nats a token, {'; '.join(said)}.",), LIMITS)
