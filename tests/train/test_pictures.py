"""Pictures of training are those of a prompt; one that does not decode is left out and said."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from gemmary.inputs.prompt import brightness
from gemmary.inputs.views import look
from gemmary.train.packing import Document
from gemmary.train.pictures import PictureArray, decoded, unbroken

SIDE = 12


def noise(seed: int, size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))


def test_they_are_seen_as_in_a_prompt() -> None:
    sources = [noise(0, (30, 20)), np.asarray(noise(1, (12, 12)))]
    pictures, broken = decoded(sources, SIDE)
    assert not broken
    seen = brightness(pictures.read(np.array([1, 0], np.int32)))
    assert np.array_equal(
        seen, brightness(np.concatenate([look(source, SIDE).pixels for source in sources[::-1]]))
    )


def test_a_picture_that_does_not_decode_is_left_out_with_the_documents_that_show_it(tmp_path: Path) -> None:
    whole = io.BytesIO()
    noise(2, (20, 20)).save(whole, "PNG")
    (tmp_path / "cut.png").write_bytes(whole.getvalue()[:90])
    pictures, broken = decoded([noise(3, (9, 9)), tmp_path / "cut.png", tmp_path / "none.png"], SIDE)
    assert set(broken) == {1, 2} and "no such file" in broken[2] and len(pictures) == 3
    documents = [Document([1, 2], [0.0, 1.0], [picture, -1]) for picture in (0, 1, 2, 0)]
    documents.append(Document([1, 2], [1.0, 1.0]))
    assert unbroken(documents, broken) == [documents[i] for i in (0, 3, 4)]


def test_other_pixels_have_another_digest() -> None:
    black = np.zeros((2, 3, SIDE, SIDE), np.uint8)
    white = black.copy()
    white[1, 2, 3, 4] = 1
    assert PictureArray(black).digest != PictureArray(white).digest
