"""How long work speaks to whoever waits for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Voice(Protocol):
    """Lines that stay, and what is being done at the moment."""

    def say(self, line: str) -> None:
        """A line that stays."""
        ...

    def doing(self, text: str) -> AbstractContextManager[Callable[[str], None]]:
        """While the block runs this is being done; what the block is given says it anew."""
        ...


class Lines:
    """A voice that says everything on a line of its own, by `tell`."""

    def __init__(self, tell: Callable[[str], None] = print) -> None:
        self.say = tell

    @contextmanager
    def doing(self, text: str) -> Iterator[Callable[[str], None]]:
        """A line now, and one whenever it changes."""
        self.say(text)
        yield self.say
