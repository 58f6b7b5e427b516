"""Conversations about pictures have the very ids that the engine makes, and weight only on answers."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gemmary.config import NANO, VisionConfig
from gemmary.errors import GemmaryError
from gemmary.inputs.tokenizer import Tokenizer
from gemmary.inputs.turns import chat_prompt
from gemmary.recipes.network import new_tower
from gemmary.recipes.pictures import Gallery
from gemmary.recipes.pictures.drawn import Ask, Topic
from gemmary.recipes.pictures.drawn import Plan as Known
from gemmary.recipes.sight import Drawings, Look, Pairing, Seeing, Talk, asked_of
from gemmary.recipes.sightexam import Sighted, examine_sight, same, sighted
from gemmary.train.loop import Plan
from tests.recipes.studies import library
from tests.train import shapes

EYES = VisionConfig(width=32, layers=2, heads=2, ffn=64, image=56, patch=14, tokens=4)
EXCHANGES = [("What is it?", "A dog."), ("How many?", "One."), ("Warum?", "Weil  es so ist.\n\nJa.")]


def test_ids_are_those_of_the_engine(tokenizer: Tokenizer) -> None:
    document = Talk(tokenizer, EYES).document(EXCHANGES, [7], 500)
    picture = np.zeros((9, 9, 3), np.uint8)
    messages = []
    for number, (asked, answered) in enumerate(EXCHANGES):
        shown = [{"type": "image", "image": picture}] if not number else []
        messages.append({"role": "user", "content": [*shown, {"type": "text", "text": asked}]})
        messages.append({"role": "assistant", "content": answered})
    prompt = chat_prompt(tokenizer, messages[:-1], EYES).ids
    assert document.ids[: len(prompt)] == prompt
    answer = [*tokenizer.encode(EXCHANGES[-1][1]), tokenizer.end_of_turn, *tokenizer.encode("\n")]
    assert document.ids[len(prompt) :] == answer
    weighted = [i for i, weight in zip(document.ids, document.weights, strict=True) if weight]
    assert weighted == [i for _, said in EXCHANGES for i in (*tokenizer.encode(said), tokenizer.end_of_turn)]
    assert document.pictures is not None
    assert [p for p in document.pictures if p >= 0] == [7] * EYES.tokens


def test_exchanges_that_do_not_fit_are_left_out_whole(tokenizer: Tokenizer) -> None:
    talk = Talk(tokenizer, EYES)
    one = talk.document(EXCHANGES[:1], [0], 500)
    assert talk.document(EXCHANGES, [0], len(one.ids) + 3) == one


@pytest.mark.usefixtures("installed_fonts")
def test_drawings_are_the_gallery_s() -> None:
    gallery = Gallery(3)
    drawings = Drawings(gallery, 5, 10, 56)
    assert drawings.known(2).exchanges == gallery.draw(7).exchanges
    pixels = drawings.read(np.array([2, 0], np.int32))
    assert pixels.shape == (2, 3, 56, 56)
    wanted = gallery.draw(7).picture.resize((56, 56), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(pixels[0], np.asarray(wanted).transpose(2, 0, 1))
    assert Drawings(gallery, 6, 10, 56).digest != drawings.digest


@pytest.mark.usefixtures("installed_fonts")
@pytest.mark.parametrize(
    "change",
    [
        {"phrases": 9}, {"tiles": 9}, {"longest": 9}, {"batch": 4}, {"looks": (Look("thing", 2, 0),)},
        {"looks": (Look("thing", 2, 0), Look(None, 1, 3))},
    ],
)  # fmt: skip
def test_pairs_of_another_kind_are_other_data(tokenizer: Tokenizer, change: dict[str, Any]) -> None:
    how = Pairing(Plan(steps=8), NANO, batch=8, looks=(Look("thing", 2, 0), Look(None, 1, 4)))
    drawings = Drawings(Gallery(3), 0, 64, 56)
    digest = how.digest(drawings, tokenizer, 1)
    assert replace(how, **change).digest(drawings, tokenizer, 1) != digest
    assert replace(how, plan=Plan(steps=9)).digest(drawings, tokenizer, 1) == digest
    assert how.digest(drawings, tokenizer, 2) != digest
    assert how.digest(Drawings(Gallery(3), 1, 64, 56), tokenizer, 1) != digest
    assert how.digest(drawings, Tokenizer.from_model(library.vocabulary()), 1) != digest


@pytest.mark.usefixtures("installed_fonts")
def test_a_tower_does_not_go_on_with_pairs_of_another_kind(tokenizer: Tokenizer, tmp_path: Path) -> None:
    plan = Plan(steps=1, parts=1, workers=1, low=False, fuse=False)
    reader = replace(shapes.READER, vocab=tokenizer.vocab)
    how = Pairing(plan, reader, batch=2, tiles=4, looks=(Look("thing", 2, 0),))
    seeing = partial(Seeing, Gallery(3), replace(shapes.TEXT, vision=EYES), tokenizer, tmp_path, 64)
    assert seeing().pair(new_tower(EYES, 64, 1), how, "pairs", 1)
    (tmp_path / "pairs" / "weights.safetensors").unlink()
    assert seeing().pair(new_tower(EYES, 64, 1), how, "pairs", 1)
    (tmp_path / "pairs" / "weights.safetensors").unlink()
    with pytest.raises(GemmaryError, match="another data; use another folder"):
        seeing().pair(new_tower(EYES, 64, 1), replace(how, phrases=2), "pairs", 1)


def test_some_pictures_are_described_as_a_whole() -> None:
    known = Known(
        "A dog.",
        (Ask(("a",), "What?", "A dog."), Ask(("b",), "Where?", "There.")),
        nothing,
        blank,
        (),
        (8, 8),
    )
    lists = [asked_of(known, random.Random(seed)) for seed in range(200)]
    described = [exchanges for exchanges in lists if len(exchanges) == 3]
    assert 60 < len(described) < 140
    assert all(exchanges[0][1] == "A dog." for exchanges in described)
    assert all(len(asked_of(known, random.Random(seed), 0.0)) == 2 for seed in range(50))


def nothing(topic: Topic) -> None:
    """No fact."""


def blank(dice: random.Random) -> Image.Image:
    return Image.new("RGB", (8, 8))


def test_a_blind_model_gains_nothing_by_its_answers() -> None:
    """Who sees is right with the picture and wrong without; who always says the same is equal in both."""
    black, white = Image.new("RGB", (8, 8)), Image.new("RGB", (8, 8), "white")
    questions = [
        Sighted(black, white, "colour", "Which?", "Black."),
        Sighted(white, black, "colour", "Which?", "White."),
    ]
    seeing = examine_sight(lambda picture, _: "black" if picture is black else "white", questions)
    blind = examine_sight(lambda *_: "White", questions)
    assert (seeing.right, seeing.wrong) == (1.0, 0.0)
    assert (blind.right, blind.wrong) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("said", "answer", "right"),
    [("a dog ", "A dog.", True), ("Two dogs.", "A dog.", False), ("12,40\u00a0€", "12,40 €", True)],
)
def test_what_counts_as_the_same(said: str, answer: str, right: bool) -> None:
    assert same(said, answer) == right


@pytest.mark.usefixtures("installed_fonts")
def test_questions_come_with_a_picture_on_which_they_are_wrong() -> None:
    found = sighted(Gallery(3, held=True), "number", 5)
    assert len(found) >= 5
    assert all(q.picture.tobytes() != q.other.tobytes() for q in found)
