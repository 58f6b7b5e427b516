"""Wide and tall documents are read in the crops of pan & scan, and only there."""

from __future__ import annotations

import random

import pytest
from PIL import Image

from gemmary.inputs.crops import PanAndScan
from gemmary.recipes.pictures import page, strip
from gemmary.recipes.pictures.page import TOWER

from .conftest import Lettered


@pytest.mark.parametrize("held", (False, True))
@pytest.mark.parametrize("make", (strip.banner, strip.roll))
def test_crops_show_whole_lines(make: object, held: bool, lettered: list[Lettered]) -> None:
    for seed in range(6):
        lettered.clear()
        picture = make(held, random.Random(seed)).paint(random.Random(seed))  # type: ignore[operator]
        longer, shorter = max(picture.size), min(picture.size)
        assert 3 <= longer / shorter <= 4
        crops = PanAndScan().boxes(*picture.size)
        assert len(crops) == longer // shorter
        for each in lettered:
            left, top, right, bottom = each.box
            assert any(c[0] <= left and c[1] <= top and right <= c[2] and bottom <= c[3] for c in crops), each
            assert each.capital * TOWER / strip.CROP >= 12.9
            assert each.capital * TOWER / longer < 8


@pytest.mark.parametrize("held", (False, True))
def test_panels_of_training_come_in_any_order_but_the_one_that_is_held_out(
    held: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[list[list[page.Row]]] = []

    def note(panels: list[list[page.Row]], *_: object) -> Image.Image:
        written.append(panels)
        return Image.new("RGB", (8, 8))

    monkeypatch.setattr(strip, "painted", note)
    places = set()
    for seed in range(60):
        plan = strip.plan(False, strip.bill, held, random.Random(seed))
        plan.paint(random.Random(seed))
        cells = [[cell for row in panel for cell in row.cells] for panel in written[-1]]
        head, foot = (
            next(n for n, panel in enumerate(cells) if plan.fact((what,)) in panel)
            for what in ("shop", "sum")
        )
        places.add((head / (len(cells) - 1), foot / (len(cells) - 1)))
    assert (places == {(1.0, 0.0)}) == held
    assert held or (len(places) > 6 and (0.0, 1.0) in places)


def test_a_long_receipt_adds_up() -> None:
    made = strip.bill("en", 4, random.Random(0))
    prices = [cents(text) for topic, text in made.facts.items() if topic[0] == "item"]
    assert len(prices) >= 6 and cents(made.facts["sum",]) == sum(prices)


def cents(text: str) -> int:
    """$12.40 -> 1240."""
    return int("".join(filter(str.isdigit, text)))
