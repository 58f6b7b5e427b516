"""Wordings stay about their task and repeat with the seed."""

from __future__ import annotations

import random

import pytest

from gemmary.recipes import phrasing


@pytest.mark.parametrize(
    ("sentence", "phrase"),
    [("List files", "list files"), ("JSON output", "JSON output"), ("A file", "a file"), ("Undo", "undo")],
)
def test_as_phrase_keeps_names(sentence: str, phrase: str) -> None:
    assert phrasing.as_phrase(sentence) == phrase


@pytest.mark.parametrize("kind", ["ask", "ask_with", "follow", "what", "examples", "read"])
def test_many_wordings_none_with_holes(kind: str) -> None:
    dice = random.Random(0)
    made = {
        phrasing.question(kind, dice, "List all files in a directory", tool="ls", command="ls -a")
        for _ in range(200)
    }
    assert len(made) > 10
    assert not [text for text in made if "{" in text or not text.strip()]


def test_the_tool_is_named_where_it_should_be() -> None:
    dice = random.Random(1)
    asked = [phrasing.question("ask_with", dice, "List files", tool="qqq") for _ in range(100)]
    assert sum("qqq" in text for text in asked) >= 95  # the rest are typing errors


def test_same_seed_same_words() -> None:
    once, again = (
        [phrasing.question("ask", random.Random(seed), "Delete a file") for seed in range(30)]
        for _ in range(2)
    )
    assert once == again


def test_rewording_swaps_words_for_their_like() -> None:
    made = {phrasing.reworded("delete a specific directory", random.Random(s)) for s in range(300)}
    assert {"remove a specific directory", "get rid of a certain folder"} <= made
