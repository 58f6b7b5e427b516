"""What a teacher is worth: 256 sampled logits a token against the text's next token (report, section 2)."""

from __future__ import annotations

from .figure import Figure, Point, Series
from .lab import Lab
from .study import Findings, Points, Runs, Study, table
from .teaching import WIDTHS, Teaching, step_of

NAME = "distill"
PLAIN, TAUGHT = "next tokens", list(WIDTHS)[-1]
TEACHER = "the teacher itself"
THEIRS = (
    "Every Gemma 3 model is distilled from 256 sampled logits a token; the report has no run without. "
    "Gemma 2's has (tables 6 and 7): a student of 200M, 400M and 1B has a perplexity of 23, 19 and 17 "
    "from scratch, and of 21, 17 and 15 with a teacher of 7B."
)
LIMITS = (
    "Equal steps, not equal cost: the teacher's own training and its forward passes are not counted. It "
    "has seen the same books for longer than the student, and the vocabulary is 1,024 pieces, of which "
    "256 samples cover nearly all that is likely: at the true 262,144 they are a much thinner sample."
)


def study(lab: Lab, title: str, quick: bool) -> Study:
    """The same student from the same text, with the teacher's targets and with the next token's."""
    teaching = Teaching(lab, quick)

    def measure(variant: str, seed: int) -> Points:
        if variant == TEACHER:
            return {"end": teaching.teacher_loss(TAUGHT)}
        return teaching.learn(variant, seed)

    return Study(NAME, title, THEIRS, teaching.settings, (PLAIN, TAUGHT, TEACHER), measure, find)


def find(runs: Runs) -> Findings:
    """Losses as both learn, and their difference."""
    names = runs.points(PLAIN)
    series = [
        Series(
            said,
            tuple(Point(step_of(n), *_mean_and_deviation(runs, variant, n)) for n in names),
        )
        for variant, said in ((PLAIN, "next tokens only"), (TAUGHT, "256 sampled logits of the teacher"))
    ]
    own = runs.spread(TEACHER, "end").mean
    series.append(Series(TEACHER, tuple(Point(step_of(n), own) for n in (names[0], names[-1])), dashed=True))
    figure = Figure(
        "Held-out loss of the student, with and without a teacher", "steps of the student", "nats a token",
        tuple(series), tuple((float(step_of(n)), str(step_of(n))) for n in names), log_x=True,
    )  # fmt: skip
    effects = {name: runs.effect(TAUGHT, PLAIN, name) for name in names}
    lines = table(
        ("steps", "next tokens", "distilled", "distilled - next tokens"),
        (
            (str(step_of(n)), *(f"{runs.spread(v, n).mean:.4f}" for v in (PLAIN, TAUGHT)), effects[n].said(4))
            for n in names
        ),
    )
    said = "; ".join(f"after {step_of(n)} steps {effects[n].said(4)}" for n in names)
    sentence = f"Distilled against next tokens, in nats a token: {said}. The teacher itself has {own:.3f}."
    return Findings((figure,), (lines,), (sentence,), LIMITS)


def _mean_and_deviation(runs: Runs, variant: str, point: str) -> tuple[float, float]:
    found = runs.spread(variant, point)
    return found.mean, found.deviation
