"""Every pixel that the model gets is the one that transformers' Gemma3ImageProcessor (Pillow) makes."""

from __future__ import annotations

import itertools
import random
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gemmary.inputs.crops import PanAndScan
from gemmary.inputs.prompt import brightness
from gemmary.inputs.views import digest_of, look

from .drawn import encoded, in_mode, picture


def sizes(count: int) -> list[tuple[int, int]]:
    """Slivers, squares, screens, photographs, and random ones, largest sides 4000 and 3000."""
    chance = random.Random(5)
    edges = [1, 2, 3, 13, 14, 255, 256, 257, 895, 896, 897, 1792]
    fixed = [
        (896, 896), (1, 1), (1, 4000), (4000, 1), (3, 1000), (4000, 3000), (3000, 4000), (1920, 1080),
        (895, 897), (1024, 1024), (448, 448), (897, 2), (2000, 500), (1170, 2532),
    ]  # fmt: skip
    grid = [pair for pair in itertools.product(edges, edges) if pair not in fixed]
    some = [(chance.randint(1, 1500), chance.randint(1, 1500)) for _ in range(count)]
    return (fixed + chance.sample(grid, 80) + some)[:count]


def same_as_transformers(processor: Any, size: tuple[int, int], side: int) -> bool:
    image = picture(*size, seed=sum(size))
    reference = processor.image_processor(images=image, size={"height": side, "width": side})["pixel_values"]
    found = brightness(look(image, side).pixels)
    return (
        found.dtype == np.float32
        and found.shape == (1, 3, side, side)
        and bool((found == np.stack(reference)).all())
    )


@pytest.mark.parametrize("size", sizes(14))
def test_pixels_at_full_size(size: tuple[int, int], processor: Any) -> None:
    assert same_as_transformers(processor, size, 896)


def test_pixels_of_many_sizes(processor: Any) -> None:
    for size in sizes(200)[14:]:
        assert same_as_transformers(processor, size, 56), size


@pytest.mark.long
def test_pixels_of_200_sizes(processor: Any) -> None:
    for size in sizes(200):
        assert same_as_transformers(processor, size, 896), size


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr"])
def test_pixels_of_other_modes(mode: str, processor: Any) -> None:
    image = in_mode(mode, (300, 200))
    reference = processor.image_processor(images=image)["pixel_values"]
    assert (brightness(look(image, 56).pixels) == np.stack(reference)).all()


def test_the_ends_of_the_scale() -> None:
    ends = look(Image.new("RGB", (5, 5)), 14).pixels, look(Image.new("L", (5, 5), 255), 14).pixels
    black, white = map(brightness, ends)
    assert (black == -1).all() and (white == 1).all()


def test_whole_then_crops() -> None:
    image = picture(1000, 300)
    found = look(image, 56, PanAndScan())
    alone = [
        look(part, 56)
        for part in (image, *(image.crop((x, 0, min(x + 334, 1000), 300)) for x in (0, 334, 668)))
    ]
    assert (found.pixels == np.concatenate([view.pixels for view in alone])).all()
    assert len(found.keys) == 4 and found.keys[0] == alone[0].keys[0]


def test_keys_tell_pictures_apart() -> None:
    """By pixels, shape, size of the square and crop; not by file, format or rule that made the crop."""
    image = picture(600, 400)
    keys = {
        look(image, 56).keys, look(image, 28).keys, look(picture(600, 400, 1), 56).keys,
        look(Image.new("RGB", (30, 100)), 56).keys, look(Image.new("RGB", (100, 30)), 56).keys,
    }  # fmt: skip
    assert len(keys) == 5 and all(len(key) == 32 for (key,) in keys)
    crops = look(image, 56, PanAndScan(min_crop=10)).keys
    assert len(set(crops)) == 3
    assert look(encoded(image), 56, PanAndScan(min_crop=20, most=2)).keys == crops
    changed = np.array(image)
    changed[399, 599, 2] ^= 1
    assert look(changed, 56).keys != look(image, 56).keys
    assert (
        digest_of(changed[:, ::-1]) == digest_of(np.ascontiguousarray(changed[:, ::-1])) != digest_of(changed)
    )
