"""Whether a difference is more than the spread of the seeds, and how that is said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import mean, stdev

# Student's t, two-sided at 95 %, for 1, 2, 3, ... degrees of freedom.
T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179)
RULE = (
    "Variants share their seeds, and with a seed the order of the data and, where shapes allow, the first"
    " weights: differences are taken seed by seed. An effect is seen where the mean difference is larger "
    "than its margin: the standard error of the mean times Student's t for 95 %, two-sided (4.30 with "
    'three seeds). Anything smaller is written "no effect seen". Of twenty comparisons of equals, one '
    "passes by chance."
)


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of the same measurement under several seeds."""

    mean: float
    deviation: float


@dataclass(frozen=True)
class Effect:
    """A difference: its mean over the seeds, and the margin that it must pass to be seen."""

    mean: float
    margin: float

    @property
    def seen(self) -> bool:
        """Whether the difference is larger than its margin."""
        return abs(self.mean) > self.margin

    def said(self, digits: int = 3, unit: str = "") -> str:
        """ "-0.031 ± 0.010 nats", or "no effect seen (-0.004 ± 0.010 nats)"."""
        number = f"{self.mean:+.{digits}f} ± {self.margin:.{digits}f}{unit}"
        return number if self.seen else f"no effect seen ({number})"


def spread(values: Sequence[float]) -> Spread:
    """Of one measurement a seed; a single one has no spread."""
    return Spread(mean(values), stdev(values) if len(values) > 1 else 0.0)


def effect(values: Sequence[float], reference: Sequence[float]) -> Effect:
    """How much `values` are above `reference`, seed by seed. ValueError: not two of each, or not as many."""
    differences = [a - b for a, b in zip(values, reference, strict=True)]
    if not 2 <= len(differences) <= len(T95) + 1:
        raise ValueError(f"an effect needs 2 to {len(T95) + 1} seeds, not {len(differences)}")
    error = stdev(differences) / sqrt(len(differences))
    return Effect(mean(differences), T95[len(differences) - 2] * error)
