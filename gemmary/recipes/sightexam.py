"""What a model that sees is asked before it is let out: pictures with fonts, layouts and scenes that training
never had, each question once with its picture and once with another one.

The wrong picture is the control: what a model answers right without seeing is not sight.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from PIL import Image

from .pictures import Gallery

Answer = Callable[[Image.Image, str], str]  # picture, question -> answer
KINDS = ("scene", "word", "number", "receipt", "table", "notice", "ticket", "terminal")
LONG = ("banner", "roll")  # for pan & scan


@dataclass(frozen=True)
class Seen:
    """Shares of questions answered right: with the picture, and with a wrong one."""

    right: float
    wrong: float
    questions: int


@dataclass(frozen=True)
class Sighted:
    """A question about a picture, the answer that is right, and a picture on which it is wrong."""

    picture: Image.Image
    other: Image.Image
    sort: str
    asked: str
    answer: str


def sighted(gallery: Gallery, kind: str, pictures: int) -> list[Sighted]:
    """The questions of the first `pictures` pictures of a kind."""
    found = []
    for number in range(pictures):
        drawn, other = gallery.draw(number, kind), gallery.draw(gallery.wrong(number, kind), kind)
        for (asked, answer), sort in zip(drawn.exchanges, drawn.sorts, strict=True):
            found.append(Sighted(drawn.picture, other.picture, sort, asked, answer))
    return found


def examine_sight(answer: Answer, questions: Sequence[Sighted]) -> Seen:
    """Ask every question twice."""
    right = [same(answer(q.picture, q.asked), q.answer) for q in questions]
    wrong = [same(answer(q.other, q.asked), q.answer) for q in questions]
    return Seen(share(right), share(wrong), len(questions))


def same(said: str, answer: str) -> bool:
    """Whether two answers say the same: case, full stop and white space aside."""
    return _plain(said) == _plain(answer)


def share(hits: Iterable[bool]) -> float:
    """How many of all; 0 of none."""
    counted = list(hits)
    return sum(counted) / len(counted) if counted else 0.0


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().strip(" .\n").split())
