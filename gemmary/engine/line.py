"""Who waits, and who comes next: bounded, and fair between owners."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from typing import Generic, TypeVar

from ..errors import GemmaryError

T = TypeVar("T")


class QueueFullError(GemmaryError):
    """As many requests wait as may wait; ask again later."""


class Line(Generic[T]):
    """Waiting things of several owners. Owners take turns; of one owner, the oldest comes first.

    All methods may be called from any thread.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._front: deque[T] = deque()  # had begun, and gave way
        self._owners: OrderedDict[str, deque[T]] = OrderedDict()  # whose turn is next comes first
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def join(self, thing: T, owner: str, free: int = 0, promised: bool = False) -> None:
        """Wait. QueueFullError where too many do; who takes one of `free` places at once does not count, nor
        who was promised one.
        """
        with self._lock:
            if not promised:
                self.check(free)
            self._owners.setdefault(owner, deque()).append(thing)
            self._length += 1

    def check(self, free: int = 0) -> None:
        """QueueFullError where nobody may join now."""
        if self._length >= self._limit + free:
            raise QueueFullError(
                f"{self._length:,} requests wait already, which is the limit: ask again in a while"
            )

    def rejoin(self, thing: T) -> None:
        """Wait again, in front of everybody; the limit does not count for who had begun."""
        with self._lock:
            self._front.append(thing)
            self._length += 1

    def next(self) -> T | None:
        """Who comes next; None where nobody waits."""
        with self._lock:
            if not self._length:
                return None
            self._length -= 1
            if self._front:
                return self._front.popleft()
            owner, things = next(iter(self._owners.items()))
            thing = things.popleft()
            if things:
                self._owners.move_to_end(owner)
            else:
                del self._owners[owner]
            return thing

    def leave(self, gone: list[T]) -> None:
        """These wait no longer; those of them that do not wait do not matter."""
        numbers = {id(thing) for thing in gone}
        with self._lock:
            self._front = deque(thing for thing in self._front if id(thing) not in numbers)
            for owner, things in list(self._owners.items()):
                left = deque(thing for thing in things if id(thing) not in numbers)
                if left:
                    self._owners[owner] = left
                else:
                    del self._owners[owner]
            self._length = len(self._front) + sum(len(things) for things in self._owners.values())

    def all(self) -> list[T]:
        """Everybody who waits."""
        with self._lock:
            return [*self._front, *(thing for things in self._owners.values() for thing in things)]
