"""Whether a large teacher is better than a small one, and from when on (report, figure 8)."""

from __future__ import annotations

from .figure import Figure, Point, Series
from .lab import Lab
from .study import Findings, Runs, Study, table
from .teaching import WIDTHS, Teaching, step_of

NAME = "teacher"
SMALL, LARGE = WIDTHS
THEIRS = (
    "Figure 8, read off: under a short training the student of the small teacher is better, under a long "
    "one that of the large teacher; the sign turns at some 20 to 40 billion tokens, and the difference in"
    " perplexity stays within about ±0.8 %. Neither the teachers' sizes nor the student's are given."
)
LIMITS = (
    "One teacher of each size, the same for every seed: the spread is that of the student alone. The two "
    "teachers have read the same text for as many steps, so that the large one is the better model; a "
    "student that is a few hundred steps old says nothing about where the sign turns at scale."
)


def study(lab: Lab, title: str, quick: bool) -> Study:
    """One student under two teachers."""
    teaching = Teaching(lab, quick)
    return Study(NAME, title, THEIRS, teaching.settings, (SMALL, LARGE), teaching.learn, find)


def find(runs: Runs) -> Findings:
    """The large teacher's student against the small one's, as both learn."""
    names = runs.points(SMALL)
    effects = {name: runs.effect(LARGE, SMALL, name) for name in names}
    points = tuple(Point(step_of(name), effects[name].mean, effects[name].margin) for name in names)
    figure = Figure(
        "Student of the large teacher against that of the small one", "steps of the student",
        "nats a token, difference", (Series("large - small, and its 95 % margin", points),),
        tuple((float(step_of(name)), str(step_of(name))) for name in names), log_x=True,
    )  # fmt: skip
    lines = table(
        ("steps", SMALL, LARGE, "large - small"),
        (
            (str(step_of(n)), *(f"{runs.spread(v, n).mean:.4f}" for v in (SMALL, LARGE)), effects[n].said(4))
            for n in names
        ),
    )
    said = "; ".join(f"after {step_of(n)} steps {effects[n].said(4)}" for n in names)
    sentence = f"The large teacher's student against the small one's, in nats a token: {said}."
    return Findings((figure,), (lines,), (sentence,), LIMITS)
