"""A receipt's total is the sum of its prices."""

from __future__ import annotations

import random
import re

from gemmary.recipes.pictures import receipt


def test_the_total_is_the_sum() -> None:
    for seed in range(40):
        plan = receipt.plan(bool(seed % 2), random.Random(seed))
        *prices, total = (int(a + b) for a, b in re.findall(r"(\d+)[.,](\d\d)", plan.caption))
        assert 2 <= len(prices) <= 5 and sum(prices) == total
        shown = plan.fact(("sum",)) or ""
        assert int("".join(filter(str.isdigit, shown))) == total


def test_all_that_can_be_read_is_a_phrase() -> None:
    plan = receipt.plan(False, random.Random(5))
    things = plan.caption.split(": ")[1].split(", total")[0].split(", ")
    assert {thing.casefold() for thing in things} <= set(plan.phrases)
    assert {word for thing in things for word in thing.casefold().split()} <= set(plan.phrases)
