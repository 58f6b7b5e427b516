"""Mapped files give their memory back, and lose nothing by it."""

from __future__ import annotations

import mmap
import re
from pathlib import Path

import numpy as np
import pytest

from gemmary.weights.mapped import MappedFile, open_regular, release

PAGES = 64
MAPS = Path("/proc/self/smaps")


@pytest.fixture
def mapped(tmp_path: Path) -> tuple[MappedFile, np.ndarray]:
    """A file of a few pages, and what is in it."""
    content = np.random.default_rng(0).integers(0, 256, PAGES * mmap.PAGESIZE + 100, np.uint8)
    (tmp_path / "file").write_bytes(content.tobytes())
    with open_regular(tmp_path / "file") as file:
        return MappedFile(tmp_path / "file", file), content


def resident(file: MappedFile) -> int:
    """Bytes of the map that are in this process's memory."""
    start = file.view(0, 1).ctypes.data
    text = MAPS.read_text(encoding="ascii")
    return 1024 * int(re.search(rf"^{start:08x}-.*?^Rss: +(\d+)", text, re.M | re.S)[1])  # type: ignore[index]


@pytest.mark.skipif(not MAPS.exists(), reason="the system does not say what a process holds")
def test_memory_goes_and_comes_back(mapped: tuple[MappedFile, np.ndarray]) -> None:
    file, content = mapped
    whole = file.view(0, len(content))
    np.testing.assert_array_equal(whole, content)
    assert resident(file) >= len(content)
    release(whole)
    assert resident(file) == 0
    np.testing.assert_array_equal(whole, content)


@pytest.mark.skipif(not MAPS.exists(), reason="the system does not say what a process holds")
def test_a_part_goes_and_the_rest_stays(mapped: tuple[MappedFile, np.ndarray]) -> None:
    file, content = mapped
    whole = file.view(0, len(content))
    assert whole.sum() >= 0  # every page is read
    release(whole[10 * mmap.PAGESIZE + 5 : 30 * mmap.PAGESIZE + 5].reshape(-1, mmap.PAGESIZE)[1:])
    gone = resident(file)
    assert len(content) - 21 * mmap.PAGESIZE <= gone <= len(content) - 17 * mmap.PAGESIZE
    np.testing.assert_array_equal(whole, content)


@pytest.mark.parametrize("start, count", [(0, 0), (0, 1), (4095, 2), (100, 5000), (262144, 100)])
def test_any_part(mapped: tuple[MappedFile, np.ndarray], start: int, count: int) -> None:
    file, content = mapped
    release(file.view(start, count))
    np.testing.assert_array_equal(file.view(0, len(content)), content)


def test_other_arrays_are_left_alone() -> None:
    array = np.arange(100_000)
    release(array.view(np.uint8)[7:70_000])
    np.testing.assert_array_equal(array, np.arange(100_000))
