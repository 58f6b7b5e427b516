"""Things and numbers in six languages: "ein Hund", "due mele", "Ningún perro."."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TABLE: dict[str, Any] = json.loads((Path(__file__).parent / "things.json").read_text(encoding="utf-8"))
LANGUAGES: tuple[str, ...] = tuple(TABLE["languages"])
ELIDED = re.compile("[aàâeéèêiîoôuyœ]|hélico", re.IGNORECASE)  # French de is d' before these


@dataclass(frozen=True, eq=False)
class Noun:
    """A thing: its emoji, and by language its singular with the article, and its plural."""

    sign: str
    one: Mapping[str, str]
    many: Mapping[str, str]

    @property
    def name(self) -> str:
        """The English word, which stands for the thing wherever no language is meant."""
        return self.one["en"].split(" ", 1)[1]

    def feminine(self, language: str) -> bool:
        return self.one[language].startswith(("una ", "un'", "uma ", "une "))

    def counted(self, number: int, language: str) -> str:
        """`number` of it: "no dogs", "a dog", "two dogs"."""
        if number == 0:
            return self.none(language)
        if number == 1:
            return self.one[language]
        word = TABLE["numbers"][language][number - 1]
        if language == "pt" and number == 2 and not self.feminine(language):
            word = "dois"
        return f"{word} {self.many[language]}"

    def none(self, language: str) -> str:
        """None of it."""
        single = self.one[language]
        if language in ("en", "de"):
            return f"{'no' if language == 'en' else 'keine'} {self.many[language]}"
        if language == "it":
            return f"ness{single}"
        article, word = single.split(" ", 1)
        return f"{NONE[article, language]} {word}"

    def blanks(self, language: str) -> dict[str, str]:
        """What the blanks of a question are filled with."""
        many = self.many[language]
        return {
            "one": self.one[language],
            "many": many,
            "de": "d'" if ELIDED.match(many) else "de ",
            "o": _ending(language, self.feminine(language)),
        }


NONE = {
    ("un", "fr"): "aucun", ("une", "fr"): "aucune", ("un", "es"): "ningún", ("una", "es"): "ninguna",
    ("um", "pt"): "nenhum", ("uma", "pt"): "nenhuma",
}  # fmt: skip


def _ending(language: str, feminine: bool) -> str:
    if language == "it":
        return "e" if feminine else "i"
    return "a" if feminine else "o"


def _noun(row: list[str]) -> Noun:
    forms = {language: text.split("|") for language, text in zip(LANGUAGES, row[1:], strict=True)}
    one, many = ({language: form[at] for language, form in forms.items()} for at in (0, 1))
    return Noun(row[0], one, many)


NOUNS: tuple[Noun, ...] = tuple(_noun(row) for row in TABLE["things"])


def sentence(text: str) -> str:
    """Text with a capital and a full stop."""
    return f"{text[0].upper()}{text[1:]}."


def listed(parts: list[str], language: str) -> str:
    """a, b and c."""
    if len(parts) == 1:
        return parts[0]
    return f"{', '.join(parts[:-1])} {TABLE['and'][language]} {parts[-1]}"


def colour(name: str, language: str) -> str:
    """A colour, as an answer gives it."""
    return name if language == "en" else TABLE["colours"][name][LANGUAGES.index(language) - 1].lower()
