"""Pan & scan takes the crops that transformers takes; tiles are ours."""

from __future__ import annotations

import itertools
import random
from typing import Any

import numpy as np
import pytest

from gemmary.errors import PromptError
from gemmary.inputs.crops import Box, PanAndScan, pan_and_scan_of

SIDES = (
    1,
    2,
    255,
    256,
    257,
    300,
    307,
    308,
    511,
    512,
    513,
    640,
    767,
    768,
    896,
    1000,
    1023,
    1025,
    1280,
    2000,
    3000,
    4000,
)


def crops_of_transformers(processor: Any, width: int, height: int, rule: PanAndScan) -> list[Box]:
    """The boxes, read off a picture whose pixels know where they are."""
    y, x = np.mgrid[:height, :width]
    crops = processor.image_processor.pan_and_scan(np.stack([x, y]), rule.min_crop, rule.most, rule.ratio)
    return [(*crop[:, 0, 0], *(crop[:, -1, -1] + 1)) for crop in crops if crop.size]


def test_a_grid_of_sizes(processor: Any) -> None:
    """Every pair of sides, by transformers' own arithmetic on an array that takes no memory."""
    rule, taken = PanAndScan(), 0
    for width, height in itertools.product(SIDES, SIDES):
        ghost = np.broadcast_to(np.uint8(0), (3, height, width))
        shapes = [crop.shape[:0:-1] for crop in processor.image_processor.pan_and_scan(ghost, 256, 4, 1.2)]
        boxes = rule.boxes(width, height)
        assert [(right - left, bottom - top) for left, top, right, bottom in boxes] == shapes, (width, height)
        taken += bool(boxes)
    assert taken > 100


def test_a_grid_of_parameters(processor: Any) -> None:
    chance = random.Random(9)
    for _ in range(400):
        rule = PanAndScan(
            chance.choice((1, 2, 7, 16, 50)),
            chance.choice((1, 2, 3, 4, 5, 8, 40)),
            chance.choice((0.3, 1, 1.2, 1.5, 2.0, 3)),
        )
        width, height = chance.randint(1, 300), chance.randint(1, 300)
        assert rule.boxes(width, height) == crops_of_transformers(processor, width, height, rule), (
            width,
            height,
            rule,
        )


def test_order_and_borders() -> None:
    assert PanAndScan().boxes(1000, 300) == [(0, 0, 334, 300), (334, 0, 668, 300), (668, 0, 1000, 300)]
    assert PanAndScan().boxes(300, 1000) == [(0, 0, 300, 334), (0, 334, 300, 668), (0, 668, 300, 1000)]
    assert PanAndScan().boxes(1000, 1000) == []


def test_tiles_cover_the_picture_row_by_row() -> None:
    assert PanAndScan(tiles=2).boxes(1001, 600) == [
        (0, 0, 501, 300), (501, 0, 1001, 300), (0, 300, 501, 600), (501, 300, 1001, 600),
    ]  # fmt: skip
    assert PanAndScan(tiles=2).boxes(1000, 400) == [], "crops of 500 x 200 are too small"
    for tiles, width, height in ((2, 7, 5), (3, 1000, 999), (8, 9, 9), (5, 6, 6)):
        seen = np.zeros((height, width), int)
        for left, top, right, bottom in PanAndScan(min_crop=1, tiles=tiles).boxes(width, height):
            assert left < right and top < bottom
            seen[top:bottom, left:right] += 1
        assert (seen == 1).all()


def test_what_users_write() -> None:
    rule = PanAndScan(100, 3, 1.5)
    assert pan_and_scan_of(False) is None and pan_and_scan_of(None) is None
    assert pan_and_scan_of(True) == PanAndScan() and pan_and_scan_of(rule) is rule
    assert pan_and_scan_of(False, 2) == pan_and_scan_of(True, 2) == PanAndScan(tiles=2)
    assert pan_and_scan_of(rule, 2) == PanAndScan(100, 3, 1.5, 2)


@pytest.mark.parametrize("value", [1, 0, "yes", [], {}, 1.5])
def test_what_is_no_rule(value: object) -> None:
    with pytest.raises(PromptError, match="must be True, False"):
        pan_and_scan_of(value)


@pytest.mark.parametrize(
    "values",
    [
        {"min_crop": 0}, {"min_crop": 1.5}, {"min_crop": True}, {"min_crop": "256"}, {"most": 0},
        {"most": -1}, {"most": None}, {"ratio": 0}, {"ratio": float("nan")}, {"ratio": float("inf")},
        {"ratio": "1.2"}, {"tiles": 1}, {"tiles": 0}, {"tiles": 9}, {"tiles": 2.0}, {"tiles": True},
        {"tiles": "2"},
    ],
)  # fmt: skip
def test_senseless_parameters(values: Any) -> None:
    with pytest.raises(PromptError, match="must be"):
        PanAndScan(**values)
