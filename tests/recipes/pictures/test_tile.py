"""Tiles say what they show, character by character."""

from __future__ import annotations

import random

import pytest

from gemmary.recipes.pictures import tile
from gemmary.recipes.pictures.scene import BY_NAME


def test_a_thing_has_a_name_and_a_ground() -> None:
    for seed in range(30):
        name, ground = tile.thing(False, random.Random(seed)).phrases
        assert name in BY_NAME and ground.endswith(" background")


@pytest.mark.parametrize(("kind", "most"), [("letters", 2), ("sign", 4), ("label", 12)])
def test_text_is_spelt(kind: str, most: int) -> None:
    for seed in range(60):
        plan = getattr(tile, kind)(False, random.Random(seed))
        exact = plan.caption[1:-2]
        text = exact.casefold()
        assert 1 <= len(text) <= most and plan.phrases[0] == exact and text in plan.phrases
        spelt = [
            phrase.split(" ", 1) for phrase in plan.phrases[1:] if phrase[0].isdigit() and phrase[1] == " "
        ]
        letters = {place: sign for place, sign in spelt if sign != "characters"}
        assert [letters[str(place)] for place in range(1, min(8, len(text)) + 1)] == list(text[:8])
        assert f"last {text[-1]}" in plan.phrases
