"""Memory for what pictures become: bounded for all requests together, whether they wait or run.

A picture of a few bytes becomes squares of 2.4 MB each (896 x 896), which stay until its answer is over.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ..config import VisionConfig
from ..errors import MemoryBudgetError
from ..inputs.crops import pan_and_scan_of
from ..inputs.draft import MAX_VIEWS
from ..inputs.prompt import Prompt

FULL = "the pictures of requests that are worked on take all memory for pictures: ask again"


class Squares:
    """Counts bytes of pixels; any thread may ask."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0
        self._lock = threading.RLock()  # a garbage collection may let go of some in the midst of `_take`

    @property
    def held(self) -> int:
        """Bytes of pixels that are there, or about to be made."""
        return self._held

    def made(self, room: int, make: Callable[[], Prompt]) -> Prompt:
        """What `make` makes, with at most `room` bytes of pixels: they count until nobody has them any more.

        MemoryBudgetError, before anything is made, where others hold too much. Who is alone may always.
        """
        with self._taken(room):
            prompt = make()
            if prompt.pixels is not None:
                self._take(prompt.pixels.nbytes, force=True)
                weakref.finalize(prompt.pixels, self._take, -prompt.pixels.nbytes, force=True)
            return prompt

    @contextmanager
    def _taken(self, size: int) -> Iterator[None]:
        self._take(size)
        try:
            yield
        finally:
            self._take(-size, force=True)

    def _take(self, size: int, force: bool = False) -> None:
        with self._lock:
            if size and self._held and self._held + size > self._most and not force:
                raise MemoryBudgetError(FULL)
            self._held += size


def room(parts: Sequence[Mapping[str, Any]], vision: VisionConfig | None, cut: bool, context: int) -> int:
    """Bytes that the pictures among `parts` become at most. cut: whether those that do not say so are cut."""
    if vision is None:
        return 0
    views = sum(_views(part, cut) for part in parts if part["type"] != "text")
    return min(views, MAX_VIEWS, context // vision.tokens) * 3 * vision.image**2


def _views(part: Mapping[str, Any], cut: bool) -> int:
    scan = pan_and_scan_of(part.get("pan_and_scan", cut), part.get("tiles"))
    return 1 if scan is None else 1 + (scan.most if scan.tiles is None else scan.tiles**2)
