"""A text on its way through the scheduler, and what its listener is told."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ..model.pages import Sequence
from .request import End, Request, Run
from .sampling import Draw
from .thread import typed


@dataclass(frozen=True)
class News:
    """What a step did for a text: draws, how much of the prompt is read, why it ended, or what went wrong."""

    draws: tuple[Draw, ...] = ()
    read: int = 0
    end: End | None = None
    fault: Exception | None = None

    @property
    def over(self) -> bool:
        """Whether no news will follow."""
        return self.end is not None or self.fault is not None


Listener = Callable[[News], object]


@dataclass(eq=False)
class Passage:
    """A text in the scheduler. `listener` is called in the engine thread and must not wait; one that raises
    has gone, and the text is cancelled.
    """

    request: Request
    run: Run
    listener: Listener
    owner: str
    ids: list[int] = field(init=False)
    sequence: Sequence = field(default_factory=Sequence)
    since: float = field(
        default_factory=time.perf_counter
    )  # its last change between waiting, reading, writing

    def __post_init__(self) -> None:
        self.ids = list(self.request.ids)

    @property
    def left(self) -> int:
        """Tokens that have to be run before the next can be drawn."""
        return len(self.ids) - self.sequence.length

    @property
    def writing(self) -> bool:
        """Whether the next step can draw for it as for everybody who writes."""
        return self.left == 1 and len(self.ids) > len(self.request.ids)

    def lap(self) -> float:
        """Seconds since the last lap."""
        now = time.perf_counter()
        spent, self.since = now - self.since, now
        return spent

    def tell(self, news: News) -> None:
        """Say what happened."""
        try:
            self.listener(news)
        except Exception:
            self.request.cancel.set()


def went_wrong(fault: BaseException) -> News:
    """What ends a text. Panics of libraries are no Exception; nobody interrupts the engine thread."""
    fault = typed(fault)
    if isinstance(fault, Exception):
        return News(fault=fault)
    told = RuntimeError(f"{type(fault).__name__} in the engine")
    told.__cause__ = fault
    return News(fault=told)
