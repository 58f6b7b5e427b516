"""int8 products for many tokens, against float64."""

from __future__ import annotations

import numpy as np
import pytest

from gemmary.ops.numba.arena import Arena
from gemmary.ops.numba.bands import Bands, multiply
from gemmary.ops.numba.machine import team
from gemmary.ops.numba.memory import WeightMemory
from gemmary.ops.numba.patch_codes import LOUD, note_rows, peaks_of, round_rows
from gemmary.ops.numba.tape import Tape


def product(
    w: np.ndarray, x: np.ndarray, bias: np.ndarray | None = None, add: np.ndarray | None = None
) -> np.ndarray:
    """x W^T + bias + add. Everything around the result is watched."""
    room, tape, arena = np.full((len(x) + 2, len(w)), 7, np.float32), Tape(), Arena()
    peaks = peaks_of(arena, *x.shape)
    tape.add(note_rows, len(peaks), x=x, peaks=peaks, tokens=len(x), columns=x.shape[1])
    codes = round_rows(tape, arena, x, peaks)
    weight = Bands.pack(team(), WeightMemory(), w, bias)
    multiply(tape, team(), arena, weight, codes, room[1:-1], add)
    team().play(tape)
    assert (room[[0, -1]] == 7).all(), "written outside of its place"
    return room[1:-1]


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape, np.float32)


@pytest.mark.parametrize("tokens", [1, 2, 7, 8, 13, 70])
@pytest.mark.parametrize(("rows", "columns"), [(32, 64), (64, 128), (5, 3), (40, 100)])
def test_products(rows: int, columns: int, tokens: int) -> None:
    w, x, bias, add = random(rows, columns), random(tokens, columns), random(rows), random(tokens, rows)
    want = x.astype(np.float64) @ w.T + bias + add
    np.testing.assert_allclose(product(w, x, bias, add), want, atol=0.04 * columns**0.5)


def test_whole_numbers_are_exact() -> None:
    """Codes are the numbers themselves where a block's largest is 127."""
    rng = np.random.default_rng(3)
    w, x = (rng.integers(-127, 128, (n, 128)).astype(np.float32) for n in (48, 19))
    w[:, ::32] = x[:, ::32] = 127
    np.testing.assert_array_equal(product(w, x), x @ w.T)


def test_zeros() -> None:
    assert not product(np.zeros((33, 65), np.float32), random(9, 65)).any()
    assert not product(random(33, 65), np.zeros((9, 65), np.float32)).any()


@pytest.mark.parametrize("count", [1, 8, LOUD])
def test_loud_columns_drown_nothing(count: int) -> None:
    """Columns a thousand times the others change the result of the others by next to nothing."""
    w, x = random(64, 512), random(40, 512)
    loud = np.random.default_rng(4).permutation(512)[:count]
    quiet = product(w, np.where(np.isin(np.arange(512), loud), 0, x).astype(np.float32))
    x[:, loud] *= 1000
    theirs = x[:, loud].astype(np.float64) @ w[:, loud].T
    error = product(w, x) - theirs - quiet
    assert np.sqrt((error**2).mean()) <= 2e-4 * np.sqrt((theirs**2).mean()) < 1e-1 * theirs.std() / count**0.5
    assert np.abs(error).max() <= 0.1 * np.abs(quiet).max()


def test_more_loud_columns_than_there_is_room_for() -> None:
    w, x = random(32, 256), random(16, 256)
    x[:, : LOUD + 20] *= 100
    want = x.astype(np.float64) @ w.T
    assert np.abs(product(w, x) - want).max() <= 0.02 * np.abs(want).max()


def test_nan_stays_in_its_row() -> None:
    w, x = random(40, 100), random(12, 100)
    x[5, 3] = np.nan
    out = product(w, x)
    assert np.isnan(out[5]).all()
    assert np.isfinite(np.delete(out, 5, 0)).all()
