"""A data folder with books of made-up words, and a vocabulary of them."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path

from gemmary.recipes.corpus import HELD_BOOKS
from gemmary.train.vocabulary import train_vocabulary

SIZE = 640
NAMES = ("a-tale.txt", "another-tale.txt", *HELD_BOOKS)


def text(seed: str, words: int = 1500) -> str:
    """Sentences of words that have two to four syllables."""
    dice = random.Random(seed)
    syllables = [a + b for a in "bdfgklmnprst" for b in "aeiou"]
    known = ["".join(random.Random(n).choices(syllables, k=2 + n % 3)) for n in range(300)]
    lines = [" ".join(dice.choices(known, k=9)).capitalize() + "." for _ in range(words // 9)]
    return "\n".join(lines) + "\n"


def write(folder: Path) -> Path:
    """The folder, filled."""
    (folder / "books").mkdir(parents=True)
    for name in NAMES:
        (folder / "books" / name).write_text(text(name), encoding="utf-8")
    return folder


@cache
def vocabulary() -> bytes:
    """A SentencePiece model of `SIZE` pieces."""
    return train_vocabulary((line for name in NAMES for line in text(name).split("\n")), SIZE)
