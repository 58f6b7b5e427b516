"""What was kept and why: counts by source and reason, with examples."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from .reasons import Reason

EXAMPLES = 4  # of every reason
SHOWN = 160  # characters of an example


@dataclass
class SourceCount:
    """Of one source. read, kept, drawn: documents (a repeated one counts once); copies: with repetitions.

    characters, drawn_characters: of what was kept, and of the mixture with repetitions. tokens: of the
    mixture. dropped counts files, lines and documents by reason.
    """

    name: str
    read: int = 0
    kept: int = 0
    characters: int = 0
    drawn: int = 0
    copies: int = 0
    drawn_characters: int = 0
    tokens: int = 0
    dropped: Counter[Reason] = field(default_factory=Counter)

    @property
    def epochs(self) -> float:
        """How often the source is in the mixture."""
        return self.drawn_characters / self.characters if self.characters else 0.0


@dataclass(frozen=True)
class Example:
    """Something that was dropped, and the beginning of it."""

    source: str
    place: str
    seen: str


@dataclass
class Report:
    """Of one preparation. seconds: of each stage; evaluation: texts, runs of 13 words, texts too short."""

    sources: list[SourceCount] = field(default_factory=list)
    examples: dict[Reason, list[Example]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    evaluation: tuple[int, int, int] = (0, 0, 0)
    vocabulary: int = 0
    shards: int = 0
    settings: dict[str, Any] = field(default_factory=dict)

    def drop(self, source: SourceCount, reason: Reason, place: str, seen: str) -> None:
        """Count something that was not kept; the first few of each reason are shown."""
        source.dropped[reason] += 1
        shown = self.examples.setdefault(reason, [])
        if len(shown) < EXAMPLES:
            shown.append(Example(source.name, place, " ".join(seen[: 4 * SHOWN].split())[:SHOWN]))

    @property
    def dropped(self) -> Counter[Reason]:
        """Of all sources, in the order of the stages."""
        total = sum((source.dropped for source in self.sources), Counter[Reason]())
        return Counter({reason: total[reason] for reason in Reason if total[reason]})

    def total(self, name: str) -> int:
        """The sum of a field of all sources."""
        return sum(getattr(source, name) for source in self.sources)

    @contextmanager
    def stage(self, name: str, tell: Callable[[str], None]) -> Iterator[None]:
        """Time a stage."""
        tell(name)
        begun = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - begun

    def json(self) -> str:
        """Everything, for programs."""
        values = {
            "totals": {n: self.total(n) for n in ("read", "kept", "characters", "drawn", "copies", "tokens")},
            "dropped": {reason.name: count for reason, count in self.dropped.items()},
            "evaluation": dict(zip(("texts", "runs", "too_short"), self.evaluation, strict=True)),
            "vocabulary": self.vocabulary,
            "shards": self.shards,
            "seconds": {name: round(seconds, 2) for name, seconds in self.seconds.items()},
            "sources": [
                {**vars(s), "epochs": s.epochs, "dropped": {r.name: n for r, n in s.dropped.items()}}
                for s in self.sources
            ],
            "settings": self.settings,
        }
        return json.dumps(values, indent=1, ensure_ascii=False)
