"""Whole characters and stop strings, whatever the borders between tokens are."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemmary.errors import PromptError
from gemmary.inputs.stream import StopStrings, TextStream
from gemmary.inputs.tokenizer import Tokenizer

from .test_tokenizer import plain_rows

BYTES = Tokenizer.from_vocabulary(*zip(*plain_rows(), ("<eos>", 0.0, 3), strict=True))  # id of byte b: 1 + b
EOS = 257
# Bytes that matter to UTF-8: starts of every length, continuations, overlong, surrogate and too large forms.
SHARP = bytes.fromhex("00 41 7f 80 8f 90 9f a0 bf c0 c1 c2 df e0 e1 ec ed ee ef f0 f1 f3 f4 f5 ff")
tokens = st.lists(st.one_of(st.sampled_from(SHARP), st.integers(0, 255)).map(lambda b: 1 + b) | st.just(EOS))


def deltas(ids: Sequence[int]) -> list[str]:
    stream = TextStream(BYTES)
    return [*(stream.push(token) for token in ids), stream.finish()]


@settings(max_examples=250, deadline=None)
@given(tokens)
def test_deltas_make_the_text(ids: list[int]) -> None:
    assert "".join(deltas(ids)) == BYTES.decode(ids)


@settings(max_examples=100, deadline=None)
@given(st.text())
def test_a_character_comes_with_its_last_byte(text: str) -> None:
    """Never half a character, never a replacement for one, and at most three bytes wait."""
    stream, shown = TextStream(BYTES), ""
    for character in text:
        *front, last = character.encode()
        assert [stream.push(1 + byte) for byte in front] == [""] * len(front)
        shown += stream.push(1 + last)
        assert shown.endswith(character)
    assert shown == text and stream.finish() == ""


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("80", ["\ufffd", ""]),  # a continuation without a start
        ("c3 41", ["", "\ufffdA", ""]),  # a start without its continuation
        ("f0 9f 91", ["", "", "", "\ufffd"]),  # never completed: known at the end only
        ("ed a0 80", ["", "", "\ufffd\ufffd\ufffd", ""]),  # half a surrogate pair is no character
        ("f4 90", ["", "\ufffd\ufffd", ""]),  # beyond the last character
        ("c0", ["\ufffd", ""]),  # starts nothing
    ],
)
def test_damaged_bytes_are_replaced_as_soon_as_it_is_certain(data: str, expected: list[str]) -> None:
    assert deltas([1 + byte for byte in bytes.fromhex(data)]) == expected


def test_control_tokens_say_nothing() -> None:
    assert deltas([1 + 0xC3, EOS, 1 + 0xA9, EOS]) == ["", "", "é", "", ""]


def expected(text: str, stops: Sequence[str]) -> tuple[str, str | None]:
    """By definition: the first stop string that is complete ends the text; the longer one at the same end."""
    for end in range(1, len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            found = max(ending, key=len)
            return text[: end - len(found)], found
    return text, None


def safe(text: str, stops: Sequence[str]) -> str:
    """All of `text` but the longest end that a stop string could still begin with."""
    held = max((k for stop in stops for k in range(len(stop)) if text.endswith(stop[:k])), default=0)
    return text[: len(text) - held]


def check(text: str, stops: Sequence[str], borders: Sequence[int]) -> None:
    whole, found = expected(text, stops)
    guard, shown, start = StopStrings(stops), "", 0
    for border in [*sorted(borders), len(text)]:
        shown += guard.push(text[start:border])
        start = border
        assert shown == (safe(text[:border], stops) if expected(text[:border], stops)[1] is None else whole)
    shown += guard.finish()
    assert (shown, guard.found) == (whole, found)
    assert guard.push("more") == ("" if found else guard.push("") + "more"[: len(safe("more", stops))])


few = st.text("ab", min_size=1, max_size=5)


@settings(max_examples=250, deadline=None)
@given(st.text("abc", max_size=24), st.lists(few, max_size=4), st.lists(st.integers(0, 24), max_size=8))
def test_stop_strings_across_any_borders(text: str, stops: list[str], borders: list[int]) -> None:
    check(text, stops, [min(border, len(text)) for border in borders])


def test_every_pair_of_borders() -> None:
    text, stops = "It ends.\n\nUser: no", ["\n\nUser:", "User", ".\n\n\n"]
    for first in range(len(text) + 1):
        for second in range(first, len(text) + 1):
            check(text, stops, [first, second])


@pytest.mark.parametrize("count", [2_000, pytest.param(200_000, marks=pytest.mark.long)])
def test_random_streams(count: int) -> None:
    chance = random.Random(25)
    for _ in range(count):
        ids = [1 + chance.choice(SHARP) for _ in range(chance.randrange(12))]
        assert "".join(deltas(ids)) == BYTES.decode(ids)
        text = "".join(chance.choices("ab\n", k=chance.randrange(30)))
        stops = [
            "".join(chance.choices("ab\n", k=chance.randrange(1, 6))) for _ in range(chance.randrange(5))
        ]
        check(text, stops, [chance.randrange(len(text) + 1) for _ in range(chance.randrange(6))])


def test_stop_strings_in_half_characters() -> None:
    """Token by token, bytes and all: nothing of the stop string is shown."""
    stream, guard, shown = TextStream(BYTES), StopStrings(["é👍"]), ""
    for byte in "aéé👍b".encode():
        shown += guard.push(stream.push(1 + byte))
    assert shown == "aé" and guard.found == "é👍" and guard.finish() == ""


def test_one_string_is_one_stop() -> None:
    guard = StopStrings("end")
    assert guard.push("e n d en") == "e n d " and guard.push("d!") == "" and guard.found == "end"


def test_nothing_to_stop_at() -> None:
    guard = StopStrings()
    assert guard.push("abc") == "abc" and guard.finish() == "" and guard.found is None


@pytest.mark.parametrize("stops", [[""], ["a", ""], [None], [3], ["\ud800"]])
def test_stop_strings_that_cannot_be(stops: list[str]) -> None:
    with pytest.raises(PromptError):
        StopStrings(stops)


def test_a_long_stop_string_costs_no_more() -> None:
    """Each character is looked at once and a half, however far the match had come."""
    guard = StopStrings(["a" * 20_000 + "b"])
    shown = sum(len(guard.push("a" * 10)) for _ in range(20_000))
    assert shown == 200_000 - 20_000 and len(guard.finish()) == 20_000
