"""Folders of files to prepare, good and bad; and a vocabulary."""

from __future__ import annotations

import json
import random
from functools import cache
from pathlib import Path

from gemmary.train.vocabulary import train_vocabulary

SYLLABLES = "ba ce di fo gu ha je ki lo mu na pe ri so tu va we xi yo zu".split()


def prose(dice: random.Random, words: int) -> str:
    """Words that nobody has said before."""
    made = ["".join(dice.choices(SYLLABLES, k=dice.randint(1, 3))) for _ in range(words)]
    return " ".join(made) + "."


def write_jsonl(path: Path, records: list[object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


@cache
def model() -> bytes:
    """A SentencePiece model of 600 pieces."""
    dice = random.Random(0)
    return train_vocabulary([prose(dice, 40) for _ in range(60)], 600)


def write(folder: Path) -> Path:
    """Three sources: `tale.txt` in paragraphs, `few.jsonl`, `many.jsonl`; and tokenizer.model."""
    dice = random.Random(1)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tale.txt").write_text("\n\n".join(prose(dice, 30) for _ in range(40)))
    write_jsonl(folder / "few.jsonl", [{"text": prose(dice, 30)} for _ in range(6)])
    write_jsonl(folder / "many.jsonl", [{"text": prose(dice, dice.randint(10, 60))} for _ in range(80)])
    (folder / "tokenizer.model").write_bytes(model())
    return folder
