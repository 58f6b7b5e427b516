"""When to guess tokens, and how many: the choice that makes the most tokens a second.

A step over the last token and k guesses reads the weights once; every guess that turns out to be what the
model says saves a step (Leviathan, Kalman, Matias 2023). What such a step costs and how often guesses are
right is measured while texts are made. This file sees no model: seconds and counts come in, a number of
tokens comes out. It may depend on the clock; what is said must not, and does not.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from statistics import median_low
from typing import Protocol

LENGTHS = (1, 2, 3, 5, 7, 11, 15)  # of drafts: few widths, so that each is measured often
_GAIN = 1.03  # a plain step is preferred to less than this
_RECENT = 5  # measurements of which the median counts
_BASE_FRESH = 64  # steps after which a plain step is measured again
_FRESH = 256  # steps after which a width is tried again
_ROW = 0.03  # plain steps that one more row costs, as long as nobody has measured it
_DRAFT = 0.2  # plain steps that a drafter takes for a token, likewise

# How often a guess is right before anything is known: by name of the proposer and grade of the guess.
PRIORS = {
    "lookup": {2: 0.3, 3: 0.45, 4: 0.55, 5: 0.65, 8: 0.8, 16: 0.9},
    "drafter": {0: 0.7},
}
_PRIOR_WEIGHT = 2.0  # tokens that a prior counts for
_EVIDENCE = 14.0  # tokens of evidence that count: of more, the older fade
_FADED = 0.995  # of evidence, when a step passes without
_CARRIED = 0.5  # of evidence, from one text to the next


class Proposer(Protocol):
    """Somebody who guesses how a text goes on."""

    @property
    def name(self) -> str:
        """A key of PRIORS."""

    @property
    def seconds(self) -> float | None:
        """What a guessed token costs; None: not known yet."""

    @property
    def ready(self) -> bool:
        """Whether it has read the text; see `read`."""

    def grade(self) -> int | None:
        """How good the next guess is, as a key of the priors; None: no guess."""

    def read(self) -> None:
        """Read a part of the text."""

    def propose(self, count: int) -> list[int]:
        """At most `count` tokens."""

    def finish(self) -> None:
        """The text is over."""


class Timing:
    """Seconds of something that is measured again and again; one odd measurement does no harm."""

    def __init__(self) -> None:
        self._recent: deque[tuple[int, float]] = deque(maxlen=_RECENT)
        self._median: float | None = 0.0

    def __len__(self) -> int:
        return len(self._recent)

    @property
    def seconds(self) -> float:
        """The median of the latest measurements; of two, the smaller."""
        if self._median is None:
            self._median = median_low(taken for _, taken in self._recent)
        return self._median

    def add(self, seconds: float, now: int = 0) -> None:
        """A measurement, at step `now`."""
        recent = self._recent
        while recent and now - recent[0][0] >= _FRESH:
            recent.popleft()
        recent.append((now, seconds))
        self._median = None  # computed when it is asked for: most steps ask nothing

    def age(self, now: int) -> int:
        """Steps since the last measurement."""
        return now - self._recent[-1][0]


class Costs:
    """Seconds of a step by its width in rows, and of a draw."""

    def __init__(self) -> None:
        self._steps: dict[int, Timing] = {}
        self._widths: list[int] = []  # in order
        self._begun: set[int] = set()
        self._draw = Timing()
        self._now = 0

    @property
    def known(self) -> bool:
        """Whether a plain step was measured often enough, and lately."""
        plain = self._steps.get(1)
        return plain is not None and len(plain) >= 3 and plain.age(self._now) < _BASE_FRESH

    @property
    def draw(self) -> float:
        """Seconds of a draw."""
        return self._draw.seconds

    def add(self, width: int, seconds: float, draws: int, draw_seconds: float) -> None:
        """A step of `width` rows, and the draws behind it.

        The first step of a width is not counted: an engine may have to prepare itself for it.
        """
        self._now += 1
        self._draw.add(draw_seconds / draws)
        if width not in self._begun:
            self._begun.add(width)
            return
        if width not in self._steps:
            self._steps[width] = Timing()
            insort(self._widths, width)
        self._steps[width].add(seconds, self._now)

    def step(self, width: int) -> float:
        """Seconds of a step: measured, or between two that are, or beyond them by the last slope."""
        plain = self._steps[1].seconds
        low, below, slope = 1, plain, 0.0
        for known in self._widths:
            timing = self._steps[known]
            if known == 1 or timing.age(self._now) >= _FRESH:
                continue
            slope = max((timing.seconds - below) / (known - low), 0.0)
            if known >= width:
                return below + slope * (width - low)
            low, below = known, timing.seconds
        return below + max(slope, _ROW * plain) * (width - low)


class Acceptance:
    """How often the guesses of one proposer are right, by grade."""

    def __init__(self, priors: dict[int, float]) -> None:
        self._priors = priors
        self._right = dict.fromkeys(priors, 0.0)
        self._wrong = dict.fromkeys(priors, 0.0)
        self._fading = 1.0  # of all evidence, not applied yet

    def rate(self, grade: int) -> float:
        """The chance of a guess behind right guesses."""
        right, wrong = self._right[grade] * self._fading, self._wrong[grade] * self._fading
        return (right + _PRIOR_WEIGHT * self._priors[grade]) / (right + wrong + _PRIOR_WEIGHT)

    def add(self, grade: int, drafted: int, accepted: int) -> None:
        """A draft was checked: so many of its tokens were right, up to the first that was not."""
        self._fade_now()
        right, wrong = self._right[grade] + accepted, self._wrong[grade] + (accepted < drafted)
        kept = min(1.0, _EVIDENCE / max(right + wrong, 1.0))
        self._right[grade], self._wrong[grade] = right * kept, wrong * kept

    def fade(self, kept: float = _FADED) -> None:
        """What is not seen for long is believed less, so that it is tried again."""
        self._fading *= kept

    def heir(self) -> Acceptance:
        """What the next text begins with."""
        self._fade_now()
        heir = Acceptance(self._priors)
        heir._right, heir._wrong = dict(self._right), dict(self._wrong)
        heir.fade(_CARRIED)
        return heir

    def _fade_now(self) -> None:
        for evidence in (self._right, self._wrong):
            for grade in evidence:
                evidence[grade] *= self._fading
        self._fading = 1.0


class Experience:
    """What is known from the texts of one model."""

    def __init__(self) -> None:
        self.costs = Costs()
        self.acceptances = {name: Acceptance(priors) for name, priors in PRIORS.items()}


class Speculation:
    """The choices for one text. Used by one thread."""

    def __init__(self, experience: Experience, proposers: list[Proposer]) -> None:
        self.proposers = proposers
        self._experience = experience
        self._acceptances = {p.name: experience.acceptances[p.name].heir() for p in proposers}
        self._asked: tuple[str, int] | None = None

    def choose(self, limit: int) -> tuple[Proposer, int] | None:
        """Who should guess, and how many tokens, at most `limit`; None: a plain step is best."""
        costs = self._experience.costs
        self._asked = None
        guesses = [(proposer, proposer.grade()) for proposer in self.proposers] if limit > 0 else []
        if not costs.known or all(grade is None for _, grade in guesses):
            return None
        best, chosen = _GAIN / (costs.step(1) + costs.draw), None
        for proposer, grade in guesses:
            if grade is None:
                continue
            rate = self._acceptances[proposer.name].rate(grade)
            seconds = _DRAFT * costs.step(1) if proposer.seconds is None else proposer.seconds
            length, speed = best_length(costs, rate, seconds, limit)
            if speed > best:
                best, chosen, self._asked = speed, (proposer, length), (proposer.name, grade)
        return chosen

    def observe(self, drafted: int, accepted: int, seconds: float, draws: int, draw_seconds: float) -> None:
        """A step behind `choose`: drafts checked and found right, seconds of the step and of its draws."""
        self._experience.costs.add(1 + drafted, seconds, draws, draw_seconds)
        for acceptance in self._acceptances.values():
            acceptance.fade()
        if drafted and self._asked is not None:
            name, grade = self._asked
            self._acceptances[name].add(grade, drafted, accepted)

    def end(self) -> None:
        """The text is over: others learn from it."""
        self._experience.acceptances.update(self._acceptances)


def best_length(costs: Costs, rate: float, draft_seconds: float, limit: int) -> tuple[int, float]:
    """The length of draft, at most `limit`, that makes the most tokens a second, and how many.

    rate: the chance that a drafted token is right when all before it are.
    """
    best, speed = 0, 0.0
    for length in LENGTHS:
        if length > limit:
            break
        tokens = (1 - rate ** (length + 1)) / (1 - rate) if rate < 1 else length + 1
        seconds = costs.step(1 + length) + tokens * costs.draw + length * draft_seconds
        if tokens / seconds > speed:
            best, speed = length, tokens / seconds
    return best, speed
