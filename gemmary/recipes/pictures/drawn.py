"""What the gallery hands out, and what it plans before it paints."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from PIL import Image

Topic: TypeAlias = tuple[str, ...]  # what a question is about: its sort, then what it names. ("count", "dog")


@dataclass(frozen=True)
class Drawn:
    """A picture whose contents are known.

    picture is RGB, of any shape. exchanges are (question, answer); sorts names what each of them asks for
    ("count", "total", "reading"...), so that scores can be told apart. phrases are short texts that are true
    of the picture; one that comes up among another picture's and not here is wrong of this one.
    """

    picture: Image.Image
    kind: str
    caption: str
    exchanges: tuple[tuple[str, str], ...]
    sorts: tuple[str, ...]
    phrases: tuple[str, ...]


@dataclass(frozen=True)
class Ask:
    """A question about a picture, and its answer."""

    topic: Topic
    question: str
    answer: str


@dataclass(frozen=True)
class Plan:
    """A picture before it is painted.

    fact gives what is true of the picture about a topic, in a form that knows no language, or None where the
    picture says nothing about it: two pictures answer a question differently if their facts differ. size is
    the width and height that it will have, in pixels.
    """

    caption: str
    asks: tuple[Ask, ...]
    fact: Callable[[Topic], str | None]
    paint: Callable[[random.Random], Image.Image]
    phrases: tuple[str, ...]
    size: tuple[int, int]

    @property
    def exchanges(self) -> tuple[tuple[str, str], ...]:
        """Questions and answers."""
        return tuple((ask.question, ask.answer) for ask in self.asks)

    def sets_apart(self, other: Plan) -> int:
        """How many of this picture's questions have another answer, or none, in the other picture."""
        return sum(self.fact(ask.topic) != other.fact(ask.topic) for ask in self.asks)
