"""Tiles lie where their phrases say, and a number is a collage."""

from __future__ import annotations

import numpy as np
import pytest

from gemmary.recipes import collage
from gemmary.recipes.collage import Collages, Tiles, drawn_tiles, tinted, truths
from gemmary.recipes.pictures import Gallery
from tests.train import shapes


def test_tiles_lie_row_by_row_as_their_phrases_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collage, "tinted", lambda tiles, dice: tiles)
    values = np.arange(6, dtype=np.uint8)
    tiles = Tiles(
        np.broadcast_to(values[:, None, None, None], (6, 3, 4, 4)).copy(), [(str(v),) for v in values]
    )
    pixels, phrases = tiles.collages(5, 2, np.random.default_rng(1))
    assert pixels.shape == (5, 3, 8, 8) and len(phrases) == 20
    for picture, said in zip(pixels, np.reshape(phrases, (5, 2, 2)), strict=True):
        for row in range(2):
            for column in range(2):
                tile = picture[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
                assert (tile == int(said[row, column])).all()


def test_vectors_of_tiles_come_in_the_order_of_their_phrases() -> None:
    """A tile's vector is that of its patches alone: another tile's pixels reach it through attention only."""
    model = shapes.sigmoid(shapes.tower())
    for layer in model.tower.layers:
        for parameter in layer.parameters():
            parameter.data.zero_()  # so that no patch sees another
    pixels = shapes.pictures(1, 0)[0].pixels.copy()
    side = pixels.shape[-1] // 2
    before = model.pictures(pixels, 2)
    pixels[0, :, :side, side:] = 255 - pixels[0, :, :side, side:]  # upper right
    changed = (model.pictures(pixels, 2) - before).abs().amax(1) > 1e-6
    assert changed.tolist() == [False, True, False, False]


def test_truths_are_by_picture_and_phrase() -> None:
    found = truths([("a", "b"), (), ("b", "c")], ["b", "z", "c"])
    assert found.tolist() == [[True, False, False], [False] * 3, [True, False, True]]


def test_tints_keep_what_a_tile_shows() -> None:
    tiles = np.full((50, 3, 4, 4), 100, np.uint8)
    tiles[..., 1:3, 1:3] = 180
    found = tinted(tiles, np.random.default_rng(2)).astype(int)
    contrast = found[..., 1, 1] - found[..., 0, 0]
    assert contrast.min() >= 55 and contrast.max() <= 102 and contrast.std() > 5
    assert found[:, :, 0, 0].std(0).min() > 5  # and every colour by itself


@pytest.mark.usefixtures("installed_fonts")
def test_several_processes_draw_what_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    gallery = Gallery(3)
    alone = drawn_tiles(gallery, "sign", 5, 32)
    monkeypatch.setattr(collage, "PORTION", 2)
    together = drawn_tiles(gallery, "sign", 5, 32)
    assert alone.pixels.shape == (5, 3, 32, 32)
    np.testing.assert_array_equal(together.pixels, alone.pixels)
    assert together.phrases == alone.phrases


def test_collages_are_numbers_too() -> None:
    tiles = Tiles(
        np.arange(7 * 48, dtype=np.uint16).astype(np.uint8).reshape(7, 3, 4, 4), [(str(n),) for n in range(7)]
    )
    alone = [Collages([(tiles, 2)], 3, 1), Collages([(tiles, 4)], 3, 1)]
    both = Collages([(tiles, 2), (tiles, 4)], 3, 1)
    assert len(both) == 6
    assert both.read(np.array([], np.int64)).shape == (0, 3, *both.read(np.array([0])).shape[2:])
    for number in range(6):
        part, at = alone[number // 3], number % 3
        wanted, found = part.read(np.array([at], np.int32)), both.read(np.array([number], np.int32))
        np.testing.assert_array_equal(found, wanted)
        assert both.names(number) == part.names(at)
    np.testing.assert_array_equal(
        both.read(np.array([2, 1], np.int32)), alone[0].read(np.array([2, 1], np.int32))
    )
    assert len(both.names(3)) == 16 and both.names(3) != both.names(4)
    assert alone[0].digest != both.digest
