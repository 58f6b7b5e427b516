"""Documents can be read at 224 x 224: no letter is too small, cut off, or missing from its font."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from PIL import Image

from gemmary.recipes.pictures import fonts, lettering, notice, page, receipt, table, terminal, ticket, tile
from gemmary.recipes.pictures.drawn import Plan

from .conftest import Lettered

MAKERS = (lettering.word, lettering.number, receipt.plan, table.plan, notice.plan, ticket.plan, terminal.plan)
SPLITS = (False, True)


@pytest.mark.parametrize("held", SPLITS)
@pytest.mark.parametrize("make", MAKERS)
def test_letters_are_large_and_inside(make: object, held: bool, lettered: list[Lettered]) -> None:
    for seed in range(12):
        make(held, random.Random(seed)).paint(random.Random(seed))  # type: ignore[operator]
    families = {each.name for each in fonts.families(held)}
    assert len(lettered) >= 12
    for each in lettered:
        assert each.capital * page.TOWER / each.page[1] >= 12.9, each
        assert min(each.box[:2]) >= 3 and each.box[2] <= each.page[0] - 3 and each.box[3] <= each.page[1] - 3
        assert each.family in families
        assert len(each.text) <= 20


@pytest.mark.parametrize("held", SPLITS)
def test_everything_that_is_known_is_written(held: bool, lettered: list[Lettered]) -> None:
    for make in MAKERS:
        for seed in range(8):
            lettered.clear()
            plan = make(held, random.Random(seed))
            plan.paint(random.Random(seed))
            written = {word for each in lettered for word in each.text.split()}
            assert {word for ask in plan.asks for word in ask.answer.split()} <= written


def test_characters_that_a_font_lacks_are_seen() -> None:
    family = fonts.families(False)[0]
    assert family.letters("Ä € 9") and not family.letters("Ä \U0010fffd")


def test_a_font_that_has_the_letters_is_taken(lettered: list[Lettered]) -> None:
    rows = [page.Row(("Ψωμί жук",))]
    for seed in range(6):
        page.sheet(rows, (224, 224), True, random.Random(seed))
    for each in lettered:
        found = fonts.family(each.family)
        assert found is not None and found.letters(each.text)


def test_letters_lean_in_training_and_are_as_their_font_is_where_held_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    painted = {}
    for held in SPLITS:
        for lean in (0.16, 0.0):
            monkeypatch.setattr(page, "LEAN", lean)
            plans = [
                make(held, random.Random(seed)) for make in (lettering.word, tile.sign) for seed in range(12)
            ]
            painted[held, lean] = [plan.paint(random.Random(7 + n)).tobytes() for n, plan in enumerate(plans)]
    assert painted[True, 0.16] == painted[True, 0.0]
    changed = sum(a != b for a, b in zip(painted[False, 0.16], painted[False, 0.0], strict=True))
    assert 6 <= changed <= 20


@pytest.mark.parametrize(
    ("made", "asked"), [(receipt.plan, ("shop",)), (ticket.plan, ("to",)), (table.plan, ("first",))]
)
def test_training_has_several_orders_and_never_the_one_that_is_held_out(
    made: Callable[[bool, random.Random], Plan], asked: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a shop, a destination, the first name of a table stands among the cells of a page."""
    written: list[list[page.Row]] = []

    def note(rows: list[page.Row], *_: object) -> Image.Image:
        written.append(rows)
        return Image.new("RGB", (8, 8))

    monkeypatch.setattr(page, "sheet", note)
    places: dict[bool, list[float]] = {held: [] for held in SPLITS}
    for held in SPLITS:
        for seed in range(120):
            plan = made(held, random.Random(seed))
            if (fact := plan.fact(asked)) is None:
                continue
            plan.paint(random.Random(seed))
            rows = written[-1]
            if made is table.plan:  # its names come last
                assert (rows[1].cells[-1] == fact) == held
            if made is receipt.plan:  # its total comes before the things
                ruled = next(row for row in rows if row.rule)
                assert (plan.fact(("sum",)) not in ruled.cells) == held
            cells = [cell for row in rows for cell in row.cells]
            places[held].append(cells.index(fact) / (len(cells) - 1))
    assert len({round(place, 1) for place in places[False]}) >= 3
    if made is ticket.plan:
        assert set(places[True]) == {1.0} and max(places[False]) < 1.0
