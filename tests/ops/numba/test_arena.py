"""Memory of dropped arrays is used again; memory of arrays that are alive never is."""

from __future__ import annotations

import numpy as np
import pytest

from gemmary.ops.numba.arena import Arena


def address(array: np.ndarray) -> int:
    return int(array.ctypes.data)


def test_a_dropped_array_makes_room() -> None:
    arena = Arena()
    first = arena.take((3, 500))
    place = address(first)
    del first
    assert address(arena.take((500, 3))) == place
    assert address(arena.take((2, 700), np.int32)) == place  # of nearly the same size, of another kind


def test_memory_does_not_grow_with_the_number_of_layers() -> None:
    """As in a decoder: x lives while q and o come and go."""
    arena, places = Arena(), set()
    x = arena.take((4, 1000))
    for _ in range(50):
        q = arena.take((4, 1000))
        o = arena.take((4, 1000))
        places |= {address(array) for array in (x, q, o)}
        x = o
    assert len(places) <= 4


@pytest.mark.parametrize("seed", range(3))
def test_living_arrays_never_share(seed: int) -> None:
    rng, arena, alive = np.random.default_rng(seed), Arena(), []
    for number in range(600):
        if alive and rng.random() < 0.45:
            alive.pop(rng.integers(len(alive)))
        array = arena.take((int(rng.integers(1, 5)), int(rng.choice([1, 7, 1024, 1030, 5000]))))
        array[:] = number
        alive.append((number, array))
        assert all((array == value).all() for value, array in alive)


def test_what_is_asked_for() -> None:
    arena = Arena()
    for shape, kind in (((2, 3), np.float32), ((5,), np.uint8), ((0, 4), np.float32), ((1, 1), np.int64)):
        array = arena.take(shape, kind)
        assert (array.shape, array.dtype) == (shape, kind)
        assert array.flags.c_contiguous and array.flags.writeable
        assert address(array) % 64 == 0


def test_arrays_may_outlive_the_garbage_of_a_step() -> None:
    array = Arena().take((2, 8))
    array[:] = 3
    assert (np.full((1000, 1000), 7).sum(), array.sum()) == (7_000_000, 48)
