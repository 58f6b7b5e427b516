"""Small talk has answers of its own for who, what and no."""

from __future__ import annotations

import random
from collections import Counter

from gemmary.recipes import smalltalk


def test_every_exchange_is_whole_and_refusals_are_common() -> None:
    dice = random.Random(0)
    exchanges = [smalltalk.talk(dice) for _ in range(2000)]
    assert not [text for exchange in exchanges for text in exchange if "{" in text or not text.strip()]
    answers = Counter(answer for _, answer in exchanges)
    assert 0.35 < answers[smalltalk.WORDS["cannot"]] / 2000 < 0.45


def test_an_unknown_name_is_repeated_in_the_answer() -> None:
    dice = random.Random(1)
    unknown = [
        exchange for exchange in (smalltalk.talk(dice) for _ in range(500)) if "I do not know" in exchange[1]
    ]
    assert unknown
    assert all(answer.split("`")[1] in asked for asked, answer in unknown)


def test_the_topics_that_manners_use_are_greeting_and_thanks() -> None:
    assert "hello" in smalltalk.GREETING["asked"] and "thanks" in smalltalk.THANKS["asked"]
