"""What every study has in common: runs that are kept, and findings.

Every run (a variant under a seed) is measured once: its numbers lie as JSON in the study's folder, and a
study that was cut goes on behind the last of them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...errors import GemmaryError
from ...weights.atomic import replacing
from .effect import Effect, Spread, effect, spread
from .figure import Figure

Points = dict[str, float]
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Run:
    """What one variant gave under one seed: numbers by name, the seconds it took, and by which commit."""

    variant: str
    seed: int
    points: Points
    seconds: float
    commit: str


class Runs:
    """All runs of a study."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.all = list(runs)

    def values(self, variant: str, point: str) -> list[float]:
        """One number a seed, in the order of the seeds."""
        of_variant = sorted((run for run in self.all if run.variant == variant), key=lambda run: run.seed)
        return [run.points[point] for run in of_variant]

    def points(self, variant: str) -> list[str]:
        """The names of what was measured, in the order of the measurement."""
        return list(next(run.points for run in self.all if run.variant == variant))

    def spread(self, variant: str, point: str) -> Spread:
        """Mean and deviation over the seeds."""
        return spread(self.values(variant, point))

    def effect(self, variant: str, reference: str, point: str) -> Effect:
        """How much `variant` is above `reference`, seed by seed."""
        return effect(self.values(variant, point), self.values(reference, point))


@dataclass(frozen=True)
class Findings:
    """What a study says: figures, tables (a head, then lines), sentences, and what they do not show."""

    figures: tuple[Figure, ...]
    tables: tuple[tuple[tuple[str, ...], ...], ...]
    sentences: tuple[str, ...]
    limits: str


@dataclass(frozen=True)
class Study:
    """One question of the report.

    `theirs`: what the report says, with its figure or table. `settings`: everything that the numbers depend
    on. `measure(variant, seed)` makes a run's numbers. `exact`: arithmetic, one seed is all.
    """

    name: str
    title: str
    theirs: str
    settings: Mapping[str, Any]
    variants: tuple[str, ...]
    measure: Callable[[str, int], Points]
    find: Callable[[Runs], Findings]
    exact: bool = False

    def runs(self, folder: Path, seeds: int, tell: Tell, commit: str) -> Runs:
        """Every variant under every seed; those that `folder` has are not run again. `commit`: of this code.

        GemmaryError: the folder holds runs of other settings.
        """
        wanted = [(seed, variant) for seed in range(1 if self.exact else seeds) for variant in self.variants]
        return Runs([self._run(folder, variant, seed, tell, commit) for seed, variant in wanted])

    def _run(self, folder: Path, variant: str, seed: int, tell: Tell, commit: str) -> Run:
        path = folder / "runs" / f"{_file_name(variant)}-{seed}.json"
        settings = json.loads(json.dumps(dict(self.settings)))
        if path.exists():
            return _kept(path, settings)
        tell(f"{self.name}: {variant}, seed {seed}")
        start = time.monotonic()
        points = self.measure(variant, seed)
        run = Run(variant, seed, points, round(time.monotonic() - start, 1), commit)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(json.dumps({**asdict(run), "settings": settings}, indent=1).encode())
        return run


def _kept(path: Path, settings: dict[str, Any]) -> Run:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        kept, run = found.pop("settings"), Run(**found)
    except (ValueError, TypeError, AttributeError, KeyError) as fault:
        raise GemmaryError(f"{path} is no run of a study: remove it, and it is run again") from fault
    if kept != settings:
        raise GemmaryError(
            f"{path} is a run of other settings: remove {path.parent}, or name another folder with --work"
        )
    return run


def _file_name(variant: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in variant)


def table(head: Sequence[str], lines: Iterator[Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    """A head and its lines."""
    return tuple(tuple(line) for line in (head, *lines))
