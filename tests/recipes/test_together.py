"""The last stage shows what the engine would show, pan & scan included, and mixes in what it was told to."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gemmary.config import NANO, VisionConfig
from gemmary.inputs.tokenizer import Tokenizer
from gemmary.inputs.turns import chat_prompt
from gemmary.recipes import together
from gemmary.recipes.pictures import KINDS, Gallery, Kind
from gemmary.recipes.sight import Talk, mixed
from gemmary.recipes.together import DRILLED, SHARES, Joined, View, Views, crops_of
from gemmary.train.packing import Document
from gemmary.train.pictures import PictureArray

EYES = VisionConfig(width=32, layers=2, heads=2, ffn=64, image=56, patch=14, tokens=4)
SEED = 3
pytestmark = pytest.mark.usefixtures("installed_fonts")


@pytest.mark.parametrize("kind", ["banner", "roll", "word"])
def test_crops_are_those_of_a_chat_with_pan_and_scan(tokenizer: Tokenizer, kind: str) -> None:
    gallery = Gallery(SEED)
    picture = gallery.draw(4, kind).picture
    content = [{"type": "image", "image": picture}, {"type": "text", "text": "What?"}]
    prompt = chat_prompt(tokenizer, [{"role": "user", "content": content}], EYES, pan_and_scan=True)
    count = 1 + len(crops_of(gallery.plan(4, kind)))
    assert count in ((4, 5) if kind != "word" else (1,))
    views = Views(gallery, [View(4, kind, place) for place in range(count)], EYES.image)
    np.testing.assert_array_equal(views.read(np.arange(count)), prompt.pixels)
    document = Talk(tokenizer, EYES).document([("What?", "That.")], range(7, 7 + count), 500)
    assert document.ids[: len(prompt.ids)] == prompt.ids
    assert document.pictures is not None
    assert [p for p in document.pictures if p >= 0] == [n for n in range(7, 7 + count) for _ in range(4)]


def test_sets_that_are_joined_keep_their_pictures() -> None:
    first, second = (PictureArray(np.full((n, 3, 2, 2), n, np.uint8)) for n in (2, 3))
    first.pixels[1], second.pixels[2] = 7, 9
    joined = Joined(first, second)
    assert len(joined) == 5
    assert joined.read(np.array([4, 1, 0, 2]))[:, 0, 0, 0].tolist() == [9, 7, 2, 3]
    assert joined.read(np.array([], np.int64)).shape == (0, 3, 2, 2)
    assert joined.digest not in (Joined(second, first).digest, Joined(first).digest)


def test_rows_without_pictures_show_none() -> None:
    views = Views(Gallery(SEED), [View(1, "word", 0)], 28)
    assert Joined(views, views).read(np.array([], np.int64)).shape == (0, 3, 28, 28)


def test_views_of_other_pictures_are_other_data() -> None:
    digests = [
        Views(Gallery(seed), [View(number, "word", 0)], side).digest
        for seed, number, side in ((1, 1, 56), (2, 1, 56), (1, 2, 56), (1, 1, 28))
    ]
    assert len(set(digests)) == 4


@pytest.mark.parametrize(("mix", "cut"), [(SHARES, 0.5), (DRILLED, 1.0)])
def test_every_kind_comes_and_strips_are_cut(
    mix: tuple[Kind, ...], cut: float, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    how = together.Mixing(None, 0, 0, shares=mix, cut=cut)  # type: ignore[arg-type]  # no training here
    seeing = together.Seeing(Gallery(SEED), replace(NANO, vision=EYES), tokenizer, tmp_path, 512)
    documents, views = together._conversations(seeing, how, range(600), random.Random(1))
    kinds = [kind for _, kind, place in views if not place]
    shares = {kind.name: kind.share for kind in mix}
    assert set(shares) == {kind.name for kind in KINDS} == set(kinds)
    assert sum(shares.values()) == pytest.approx(1)
    assert kinds.count("scene") == pytest.approx(600 * shares["scene"], abs=40)
    strips = sum(kind in together.STRIPS for kind in kinds)
    assert sum(place == 3 for _, _, place in views) == pytest.approx(
        cut * strips, abs=0.25 * (1 - cut) * strips
    )
    shown = [p for document in documents for p in document.pictures or () if p >= 0]
    assert shown == [n for n in range(len(views)) for _ in range(EYES.tokens)]
    assert all(any(document.weights) for document in documents), "a picture without an answer teaches nothing"


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6])
def test_as_much_talk_as_was_asked_for(share: float) -> None:
    shown = [Document([1] * (n := 20 + k % 7), [1.0] * n) for k in range(200)]
    talk = iter(lambda: Document([2] * 15, [1.0] * 15), None)
    found = list(mixed(shown, talk, share))  # type: ignore[arg-type]  # the sentinel never comes
    tokens = [sum(len(d.ids) for d in found if d.ids[0] == token) for token in (1, 2)]
    assert [d for d in found if d.ids[0] == 1] == shown
    assert tokens[1] / sum(tokens) == pytest.approx(share, abs=0.01)
