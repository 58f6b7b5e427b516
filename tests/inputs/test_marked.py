"""Plain text with pictures: as transformers' processor has it, and only where the caller gives pictures."""

from __future__ import annotations

import random
from typing import Any

import pytest

from gemmary.errors import ImageError, PromptError
from gemmary.inputs.marked import marked_prompt
from gemmary.inputs.tokenizer import Tokenizer

from .test_chat_pictures import PICTURES, VISION, same

WORDS = ["", " ", "\n", "\n\n", "Describe.", " what is this?", "a\n\nb", "\t", "  ", "\n \n"]


@pytest.mark.parametrize("pan_and_scan", [False, True])
def test_same_as_transformers(pan_and_scan: bool, tokenizer: Tokenizer, processor: Any) -> None:
    chance = random.Random(8)
    for _ in range(60):
        pictures = [chance.choice(PICTURES) for _ in range(chance.randrange(1, 4))]
        text = "<start_of_image>".join(chance.choice(WORDS) for _ in range(len(pictures) + 1))
        reference = processor(text=text, images=[pictures], do_pan_and_scan=pan_and_scan)
        prompt = marked_prompt(tokenizer, text, pictures, VISION, pan_and_scan=pan_and_scan)
        assert same(prompt, reference), text


def test_without_pictures_it_is_plain_text(tokenizer: Tokenizer) -> None:
    prompt = marked_prompt(tokenizer, "Hello <end_of_turn>", [], None)
    assert prompt.ids == [2, *tokenizer.encode("Hello <end_of_turn>")] and prompt.pixels is None


@pytest.mark.parametrize(
    ("text", "count"),
    [("<start_of_image>", 0), ("", 1), ("<start_of_image>" * 2, 1), ("<start_of_image> x", 2)],
)
def test_as_many_pictures_as_marks(text: str, count: int, tokenizer: Tokenizer) -> None:
    with pytest.raises(PromptError, match=f"and there are {count} pictures: write it where"):
        marked_prompt(tokenizer, text, PICTURES[:count], VISION)


@pytest.mark.parametrize("pictures", [None, "a.png", b"bytes", 5, PICTURES[0]])
def test_pictures_come_in_a_list(pictures: Any, tokenizer: Tokenizer) -> None:
    with pytest.raises(PromptError, match="must be a list"):
        marked_prompt(tokenizer, "<start_of_image>", pictures, VISION)


def test_bad_text_and_blind_models(tokenizer: Tokenizer) -> None:
    with pytest.raises(PromptError, match="surrogate"):
        marked_prompt(tokenizer, "\ud800<start_of_image>", PICTURES[:1], VISION)
    with pytest.raises(ImageError, match="reads text only"):
        marked_prompt(tokenizer, "<start_of_image>", PICTURES[:1], None)
    with pytest.raises(ImageError, match="no such file"):
        marked_prompt(tokenizer, "<start_of_image>", ["nowhere.png"], VISION)
