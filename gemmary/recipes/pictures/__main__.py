"""python -m gemmary.recipes.pictures --out FOLDER: pictures, their questions, a contact sheet."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from .contact import contact
from .gallery import KINDS, Gallery


def main(words: list[str] | None = None) -> None:
    """Writes 000.png and so on, questions.jsonl and contact.png."""
    parser = argparse.ArgumentParser(prog="python -m gemmary.recipes.pictures", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--count", type=int, default=24, help="pictures (24)")
    parser.add_argument("--seed", type=int, default=0, help="other numbers give other pictures (0)")
    parser.add_argument("--kind", choices=[kind.name for kind in KINDS], help="only this kind")
    parser.add_argument("--held", action="store_true", help="pictures as training never sees them")
    given = parser.parse_args(words)
    gallery = Gallery(given.seed, given.held)
    given.out.mkdir(parents=True, exist_ok=True)
    drawn = [gallery.draw(number, given.kind) for number in range(given.count)]
    with open(given.out / "questions.jsonl", "w", encoding="utf-8") as file:
        for number, each in enumerate(drawn):
            name = f"{number:03}.png"
            each.picture.save(given.out / name)
            told = {"picture": name, "kind": each.kind, "caption": each.caption, "exchanges": each.exchanges}
            file.write(json.dumps(told, ensure_ascii=False) + "\n")
    contact(drawn).save(given.out / "contact.png")


if __name__ == "__main__":
    main()
