"""Activations rounded to int8: the error is half a step, sums are exact, rows do not know each other."""

from __future__ import annotations

import numpy as np
import pytest

from gemmary.ops.numba.activation import BLOCK, dequantized, tile_of
from gemmary.ops.numba.tile import TOKEN_BYTES
from tests.ops.numba.played import rounded, values_of


def made(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(rows, columns)) * 10.0 ** rng.integers(-6, 6, (rows, 1))).astype(np.float32)


def restored(x: np.ndarray) -> np.ndarray:
    return values_of(rounded(x), *x.shape)


def sums(codes: np.ndarray, tokens: int, columns: int) -> np.ndarray:
    """What lies behind the scales: int32 [T, blocks, 3], read from the tiles as `tile` describes them."""
    blocks, found = columns // BLOCK, []
    for first in range(tokens):
        start, size = tile_of(first, tokens)
        tile = codes[start * blocks * TOKEN_BYTES :][: size * blocks * TOKEN_BYTES].reshape(blocks, -1)
        numbers = tile[:, size * BLOCK :].copy().view(np.int32).reshape(blocks, 4, size)
        found.append(numbers[:, 1:, first - start])
    return np.stack(found)


@pytest.mark.parametrize(("rows", "columns"), [(1, 32), (1, 96), (3, 1152), (7, 224), (8, 64), (23, 32)])
def test_half_a_step(rows: int, columns: int) -> None:
    x = made(rows, columns)
    codes, scales = dequantized(rounded(x), rows, columns)
    half = np.repeat(scales, BLOCK, -1) * 0.5
    assert (np.abs(restored(x) - x) <= half * (1 + 1e-5)).all()
    largest = np.abs(codes.reshape(rows, -1, BLOCK).astype(int)).max(-1)
    assert (largest == 127).all()
    peaks = np.abs(x).reshape(rows, -1, BLOCK).max(-1)
    np.testing.assert_array_equal(scales, peaks / np.float32(127))


def test_ties_go_to_even() -> None:
    x = np.zeros((1, 32), np.float32)
    x[0, :8] = [127, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.5]
    codes, _ = dequantized(rounded(x), 1, 32)
    np.testing.assert_array_equal(codes[0, :8], [127, 0, 2, 2, 0, -2, -2, 126])


@pytest.mark.parametrize("tokens", [1, 2, 5, 8, 15, 17])
def test_sums_are_exact(tokens: int) -> None:
    """Minus the sum of 32 codes, of the first 16 and of the last 16."""
    found = rounded(made(tokens, 320))
    halves = dequantized(found, tokens, 320)[0].reshape(tokens, -1, 2, 16).astype(np.int32).sum(-1)
    want = -np.stack([halves.sum(-1), halves[..., 0], halves[..., 1]], -1)
    np.testing.assert_array_equal(sums(found, tokens, 320), want)


@pytest.mark.parametrize("tokens", range(1, 40))
def test_tiles_cover_every_token_once(tokens: int) -> None:
    """Eight at a time, then 4, 2 and 1: in order, without gaps."""
    tiles = sorted({tile_of(token, tokens) for token in range(tokens)})
    assert [first for first, _ in tiles] == [sum(size for _, size in tiles[:i]) for i in range(len(tiles))]
    assert sum(size for _, size in tiles) == tokens
    assert all(size == 8 for _, size in tiles[: tokens // 8])
    assert len({size for _, size in tiles[tokens // 8 :]}) == len(tiles[tokens // 8 :])
    assert all(first <= t < first + size for t in range(tokens) for first, size in [tile_of(t, tokens)])


@pytest.mark.parametrize("tokens", [6, 8, 11])
def test_a_row_depends_on_itself_only(tokens: int) -> None:
    x = made(tokens, 256)
    together = dequantized(rounded(x), tokens, 256)
    for t in range(tokens):
        for alone, row in zip(dequantized(rounded(x[t : t + 1]), 1, 256), together, strict=True):
            np.testing.assert_array_equal(alone[0], row[t])


def test_nothing_comes_from_nothing() -> None:
    assert not rounded(np.zeros((2, 64), np.float32)).any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_damaged_number_gets_into_the_scale(bad: float) -> None:
    x = made(3, 64)
    x[1, 40] = bad
    scales = dequantized(rounded(x), 3, 64)[1]
    assert (~np.isfinite(scales) == [[False, False], [False, True], [False, False]]).all()


@pytest.mark.parametrize("size", [1e-45, 1e-40, 1e-37, 1e37, 3e38])
def test_extreme_sizes(size: float) -> None:
    x = (made(1, 32) / np.abs(made(1, 32)).max() * size).astype(np.float32)
    assert (np.abs(restored(x) - x) <= max(size / 200, 1e-36)).all()
