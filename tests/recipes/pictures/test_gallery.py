"""A number is a picture, here and elsewhere; wrong pictures answer otherwise."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from gemmary.recipes.pictures import KINDS, Gallery
from gemmary.recipes.pictures.gallery import planned

ROOT = Path(__file__).parents[3]
NAMES = [kind.name for kind in KINDS]
DIGEST = """
from tests.recipes.pictures.test_gallery import digest
print(digest())
"""


def digest() -> str:
    """Of some pictures, and of all that is said about them."""
    sum_ = hashlib.sha256()
    for held in (False, True):
        for kind in ("scene", "word", "receipt", "roll"):
            drawn = Gallery(7, held).draw(3, kind)
            sum_.update(drawn.picture.tobytes())
            sum_.update(repr((drawn.caption, drawn.exchanges)).encode())
    return sum_.hexdigest()


def test_another_process_draws_the_same() -> None:
    env = os.environ | {"PYTHONHASHSEED": "4711", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", DIGEST], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.stdout.strip() == digest(), done.stderr


def test_seed_split_and_number_count() -> None:
    drawn = [Gallery(1, False).draw(0, "scene"), Gallery(2, False).draw(0, "scene")]
    drawn += [Gallery(1, True).draw(0, "scene"), Gallery(1, False).draw(1, "scene")]
    assert len({each.picture.tobytes() for each in drawn}) == 4


@pytest.mark.parametrize("kind", ("thing", "letters", "sign", "label"))
def test_tiles_are_as_large_as_planned(kind: str) -> None:
    gallery = Gallery(0, False)
    assert gallery.draw(5, kind).picture.size == gallery.plan(5, kind).size


@pytest.mark.parametrize("kind", NAMES)
def test_pictures_are_whole(kind: str) -> None:
    gallery = Gallery(0, False)
    drawn = gallery.draw(5, kind)
    assert drawn.picture.size == gallery.plan(5, kind).size
    assert (drawn.picture.mode, drawn.kind, len(drawn.sorts)) == ("RGB", kind, len(drawn.exchanges))
    assert drawn.caption.endswith(".") and len(drawn.exchanges) >= 1
    assert all(question.endswith(("?", ".")) and answer for question, answer in drawn.exchanges)


def test_kinds_come_in_their_shares() -> None:
    gallery = Gallery(0, False)
    counted = Counter(gallery.kind(number) for number in range(1000))
    assert sum(share for _, share in KINDS) == pytest.approx(1)
    for name, share in KINDS:
        assert counted[name] / 1000 == pytest.approx(share, abs=0.04), name
    number = next(n for n in range(99) if gallery.kind(n) == "word")
    assert gallery.draw(number).picture.tobytes() == gallery.draw(number, "word").picture.tobytes()


@pytest.mark.parametrize("kind", NAMES)
def test_wrong_pictures_answer_otherwise(kind: str) -> None:
    gallery, apart, asked = Gallery(0, True), 0, 0
    for number in range(8):
        other = gallery.wrong(number, kind)
        assert other != number
        right, wrong = planned(0, True, number, kind), planned(0, True, other, kind)
        apart, asked = apart + right.sets_apart(wrong), asked + len(right.asks)
        told = dict(zip([a.question for a in wrong.asks], [a.answer for a in wrong.asks], strict=True))
        same = [ask for ask in right.asks if told.get(ask.question) == ask.answer]
        assert len(same) <= len(right.asks) - right.sets_apart(wrong)
    assert apart / asked >= (0.85 if kind == "scene" else 0.99)


def test_wrong_pictures_are_of_the_same_kind() -> None:
    gallery = Gallery(0, False)
    assert [gallery.kind(gallery.wrong(number)) for number in range(8)] == [gallery.kind(n) for n in range(8)]


def test_guessing_does_not_pay() -> None:
    """No answer is right for more than a quarter of a sort of questions about documents."""
    answers: dict[str, Counter[str]] = {}
    for kind in NAMES[1:]:
        for number in range(80):
            for ask in planned(0, False, number, kind).asks:
                answers.setdefault(ask.topic[0], Counter())[ask.answer] += 1
    assert len(answers) >= 20
    for sort, counted in answers.items():
        assert counted.most_common(1)[0][1] <= max(4, 0.25 * counted.total()), sort


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match="choose from scene, word"):
        Gallery(0).draw(0, "photo")
