"""Shared runs of 13 words, against a search through lists."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmary.errors import GemmaryError
from gemmary.train.data.contamination import WINDOW, Evaluation, evaluation_texts
from gemmary.train.data.words import word_hashes, words

FEW_WORDS = st.lists(st.sampled_from("ab"), max_size=60)


def naive(document: list[str], evaluation: list[list[str]]) -> int | None:
    """The first place of the document where 13 words stand that stand somewhere in the evaluation."""
    known = {tuple(text[n : n + WINDOW]) for text in evaluation for n in range(len(text) - WINDOW + 1)}
    places = (n for n in range(len(document) - WINDOW + 1) if tuple(document[n : n + WINDOW]) in known)
    return next(places, None)


@given(FEW_WORDS, st.lists(FEW_WORDS, max_size=4))
def test_finds_what_a_naive_search_finds(document: list[str], evaluation: list[list[str]]) -> None:
    built = Evaluation(" ".join(text) for text in evaluation)
    assert built.first_shared(word_hashes(document)) == naive(document, evaluation)
    assert built.texts == len(evaluation)
    assert built.unchecked == sum(len(text) < WINDOW for text in evaluation)


QUESTION = "How many eggs does the farmer sell every day if her 16 ducks lay one each?"


@pytest.mark.parametrize(
    "document",
    [
        f"Some text. {QUESTION} And more.",
        QUESTION.upper().replace(" ", "\n"),
        QUESTION.replace(" ", ", ").replace("?", " ..."),
    ],
)
def test_case_space_and_punctuation_do_not_hide_it(document: str) -> None:
    assert Evaluation([QUESTION]).first_shared(word_hashes(words(document))) is not None


def test_twelve_words_are_not_enough() -> None:
    twelve = " ".join(QUESTION.split()[:12])
    other = word_hashes(words(twelve + " and then something else"))
    assert Evaluation([QUESTION]).first_shared(other) is None


def test_scripts_without_spaces() -> None:
    text = "农夫每天卖多少个鸡蛋如果她的鸭子每天下蛋"
    assert Evaluation([text]).first_shared(word_hashes(words("他说" + text[2:16] + "吗"))) == 2


def test_reads_strings_at_any_depth(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"examples": [{"input": "one", "n": 3}, ["two"]]}))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(b'{"q": "three"}\n\n{"q": "four"}\n'))
    (tmp_path / "c.txt").write_text("five\n")
    paths = sorted(tmp_path.iterdir())
    assert list(evaluation_texts(paths)) == ["one", "two", "three", "four", "five\n"]


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.jsonl", b'{"q": '), ("a.json", b"\xff\xfe"), ("a.jsonl.gz", b"no"), ("a.json", b"[" * 100_000)],
)
def test_an_evaluation_that_cannot_be_read_stops(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(GemmaryError, match="evaluation cannot be read"):
        list(evaluation_texts([tmp_path / name]))
