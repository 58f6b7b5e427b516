"""BM25 against its formula, written out by hand."""

from __future__ import annotations

import math

from gemmary.recipes.lookup import K1, B, Lookup, words

ENTRIES = [("list all files", "ls"), ("delete files", "rm"), ("list list disks", "lsblk")]


def score(question: str, text: str) -> float:
    """BM25 of one entry."""
    texts = [words(entry) for entry, _ in ENTRIES]
    mean = sum(map(len, texts)) / len(texts)
    total = 0.0
    for word in set(words(question)):
        containing = sum(word in entry for entry in texts)
        weight = math.log(1 + (len(texts) - containing + 0.5) / (containing + 0.5))
        count = words(text).count(word)
        total += weight * count * (K1 + 1) / (count + K1 * (1 - B + B * len(words(text)) / mean))
    return total


def test_best_entry_is_that_of_the_formula() -> None:
    found = Lookup(ENTRIES)
    for question in ("list", "files", "list files", "delete a list of disks", "disk"):
        best = max(ENTRIES, key=lambda entry: score(question, entry[0]))
        assert found.answer(question) == best[1]


def test_nothing_in_common_is_no_answer() -> None:
    assert Lookup(ENTRIES).answer("zzz") == ""


def test_plurals_are_one_word() -> None:
    assert words("Lists FILES of disks ls") == ["list", "file", "of", "disk", "ls"]
