"""What is said of a scene is in it; what is held out is never trained on."""

from __future__ import annotations

import random
from collections import Counter
from itertools import combinations

import pytest
from PIL import Image, ImageChops

from gemmary.recipes.pictures import backdrop, emoji, scene
from gemmary.recipes.pictures.places import SIDE, apart
from gemmary.recipes.pictures.scene import Scene, reserved, scenery

SPLITS = (False, True)


def scenes(held: bool, number: int) -> list[Scene]:
    return [scenery(held, random.Random(seed)) for seed in range(number)]


@pytest.mark.parametrize("held", SPLITS)
def test_things_lie_in_their_boxes_and_nowhere_else(held: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backdrop, "grained", lambda picture, *rest: picture)
    for number, found in enumerate(scenes(held, 25)):
        with monkeypatch.context() as empty:
            empty.setattr(emoji, "stuck", lambda *rest: None)
            ground = found.paint(random.Random(number))
        changed = ImageChops.difference(found.paint(random.Random(number)), ground).convert("L")
        for _, box in found.things:
            inside = changed.crop(box).point(lambda value: 255 * (value > 12))
            assert inside.histogram()[255] > 0.1 * inside.width * inside.height
            changed.paste(0, (box[0] - 4, box[1] - 4, box[2] + 4, box[3] + 4))
        assert changed.getbbox() is None


@pytest.mark.parametrize("held", SPLITS)
def test_boxes_leave_gaps_and_stay_inside(held: bool) -> None:
    for found in scenes(held, 150):
        boxes = [box for _, box in found.things]
        assert 1 <= len(boxes) <= 6
        assert all(min(box) >= 0 and max(box) <= SIDE and box[2] - box[0] >= 24 for box in boxes)
        assert all(apart(one, other, 0) for one, other in combinations(boxes, 2))


def pairs(found: Scene) -> set[frozenset[str]]:
    """Things that share the scene."""
    names = {noun.name for noun, _ in found.things}
    return {frozenset(pair) for pair in combinations(sorted(names), 2)}


def test_training_never_shows_what_is_held_out() -> None:
    trained = set().union(*map(pairs, scenes(False, 300)))
    assert not any(reserved(*pair) for pair in trained)
    for found in scenes(True, 150):
        assert not (beside := pairs(found)) or beside - trained, found


def test_answers_agree_with_the_caption() -> None:
    words = {"a": 1, "an": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
    for seed in range(150):
        plan = scene.plan(False, random.Random(seed))
        contents = plan.caption[:-1].lower().rpartition(" on ")[0].replace(" and ", ", ").split(", ")
        total = sum(words[part.split()[0]] for part in contents)
        assert plan.fact(("total",)) == str(total)
        for ask in plan.asks:
            if ask.topic[0] == "list" and ask.question.startswith("What"):
                assert plan.caption.startswith(ask.answer[:-1])
            if ask.topic[0] == "count" and ask.question.startswith("How"):
                number = words.get(ask.answer.split()[0].lower().replace("one", "a"), 0)
                assert plan.fact(ask.topic) == str(number)


def test_phrases_are_what_is_true_and_nothing_else() -> None:
    for seed in range(100):
        plan = scene.plan(False, random.Random(seed))
        for noun in scene.NOUNS:
            number = int(plan.fact(("count", noun.name)) or 0)
            said = {many for many in range(1, 7) if noun.counted(many, "en") in plan.phrases}
            assert (noun.name in plan.phrases, said) == (number > 0, {number} - {0}), noun.name
        for side in scene.SIDES:
            there = [phrase for phrase in plan.phrases if phrase.endswith(f" {side}")]
            assert there == [f"{plan.fact((side,))} {side}"] * (plan.fact((side,)) is not None)
        totals = ("one thing", "two things", "three things", "four things", "five things", "six things")
        assert [phrase for phrase in plan.phrases if phrase in totals] == [
            totals[int(plan.fact(("total",)) or 0) - 1]
        ]


def test_the_outermost_thing_is_asked_for() -> None:
    cat, dog, car = (scene.BY_NAME[name] for name in ("cat", "dog", "car"))
    found = Scene(
        ((cat, (10, 80, 60, 130)), (dog, (90, 20, 140, 70)), (car, (80, 150, 130, 200))), ("red",), "plain"
    )
    named = {side: found.outermost(side) for side in scene.SIDES}
    assert (named["left"], named["top"], named["bottom"]) == (cat, dog, car)
    assert named["right"] is None  # the dog is hardly farther right than the car


@pytest.mark.parametrize("held", SPLITS)
def test_guessing_does_not_pay(held: bool) -> None:
    """No answer is right for more than a quarter of a sort of questions, yes and no apart."""
    facts: dict[str, Counter[str | None]] = {}
    for seed in range(400):
        plan = scene.plan(held, random.Random(seed))
        for ask in plan.asks:
            facts.setdefault(ask.topic[0], Counter())[plan.fact(ask.topic)] += 1
    assert set(facts) == {"list", "count", "total", "there", "background", *scene.SIDES}
    for sort, counted in facts.items():
        most = counted.most_common(1)[0][1] / counted.total()
        assert most < (0.6 if sort == "there" else 0.3), sort


def test_nothing_vanishes_in_its_background() -> None:
    assert emoji.lost("⭐", backdrop.COLOURS["yellow"]) and not emoji.lost("⭐", backdrop.COLOURS["blue"])
    assert isinstance(emoji.sprite("⭐"), Image.Image)
