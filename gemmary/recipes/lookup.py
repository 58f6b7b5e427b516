"""BM25 over the same knowledge: what a plain search finds. The model is measured beside it."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from .everyday import Everyday
from .manual import Page

K1, B = 1.2, 0.75  # the usual constants of BM25 (Robertson and Zaragoza, 2009)


def words(text: str) -> list[str]:
    """Lower-case words without a plural s."""
    return [
        word[:-1] if len(word) > 3 and word.endswith("s") else word
        for word in re.findall(r"\w+", text.lower())
    ]


class Lookup:
    """`answer(question)` is the command of the best matching entry."""

    def __init__(self, entries: Iterable[tuple[str, str]]) -> None:
        self._commands: list[str] = []
        self._postings: dict[str, list[tuple[int, int]]] = {}
        lengths = []
        for number, (text, command) in enumerate(entries):
            counts = Counter(words(text))
            self._commands.append(command)
            lengths.append(sum(counts.values()))
            for word, count in counts.items():
                self._postings.setdefault(word, []).append((number, count))
        mean = sum(lengths) / len(lengths)
        self._norms = [K1 * (1 - B + B * length / mean) for length in lengths]

    def answer(self, question: str) -> str:
        """The command whose text scores highest; the earlier entry where scores are equal."""
        scores: dict[int, float] = defaultdict(float)
        for word in sorted(set(words(question))):
            found = self._postings.get(word, [])
            weight = math.log(1 + (len(self._commands) - len(found) + 0.5) / (len(found) + 0.5))
            for number, count in found:
                scores[number] += weight * count * (K1 + 1) / (count + self._norms[number])
        return self._commands[min(scores, key=lambda n: (-scores[n], n))] if scores else ""


def lookup(
    pages: Iterable[Page], everyday: Iterable[Everyday], translations: Mapping[str, Iterable[Page]]
) -> Lookup:
    """Entries: tool, task and command of every example, also in other languages; task and wordings of every
    everyday task.
    """
    everywhere = [*pages, *(page for read in translations.values() for page in read)]
    of_pages = (
        (f"{page.tool} {e.task} {e.command}", e.command) for page in everywhere for e in page.examples
    )
    of_days = ((f"{task.task} {' '.join(task.asked)} {task.command}", task.command) for task in everyday)
    return Lookup([*of_days, *of_pages])
