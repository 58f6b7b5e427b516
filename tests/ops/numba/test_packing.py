"""Packing moves codes and scales; it changes none, loses none and leaves what is lacking at zero."""

from __future__ import annotations

import numpy as np
import pytest

from gemmary.formats import Format
from gemmary.ops.numba import packing
from gemmary.ops.numba.memory import WeightMemory
from gemmary.ops.numba.strips import LAYOUTS
from gemmary.ops.numba.team import Team
from tests.formats.oracle import QUANTIZED, by_name, decoded, random_bytes
from tests.ops.numba.strips import CODES, FRONT, GROUPS, HEADER, unpacked


def file_bytes(form: Format, rows: int, columns: int, seed: int = 0) -> np.ndarray:
    """Any codes at all, with finite scales in both signs."""
    raw = random_bytes(form, rows, columns, seed).reshape(-1, form.nbytes)
    rng = np.random.default_rng(seed)
    scales = rng.uniform(0.5, 2, (len(raw), 2)) * rng.choice([-1, 1], (len(raw), 2))
    start = 208 if form.name == "Q6_K" else 0
    count = 2 if form.name in ("Q4_1", "Q5_1", "Q4_K", "Q5_K") else 1
    raw[:, start : start + 2 * count] = scales[:, :count].astype("<f2").view(np.uint8)
    raw.flags.writeable = False
    return raw.reshape(-1)


def packed(form: Format, raw: np.ndarray, rows: int, columns: int, threads: int = 1) -> np.ndarray:
    memory = WeightMemory()
    memory._block = np.full(1 << 22, 255, np.uint8)  # memory that somebody used before
    return packing.pack(Team(threads), memory, form, raw, rows, columns)[1]


@pytest.mark.parametrize("rows", [1, 16, 17, 45])
@pytest.mark.parametrize("form", QUANTIZED, ids=by_name)
def test_strips_hold_the_files_codes_and_scales(form: Format, rows: int) -> None:
    columns = 2 * form.block
    raw = file_bytes(form, rows, columns, rows)
    found = unpacked(form.name, packed(form, raw, rows, columns), rows, columns)
    np.testing.assert_array_equal(found[:rows], decoded(form, raw.reshape(rows, -1)))


@pytest.mark.parametrize("form", QUANTIZED, ids=by_name)
def test_lacking_rows_are_zeros(form: Format) -> None:
    strips = packed(form, file_bytes(form, 3, form.block), 3, form.block)
    for row in range(3, 16):
        assert not lanes_of(form.name, strips, row).any()
    assert all(lanes_of(form.name, strips, row).any() for row in range(3))


def lanes_of(name: str, block: np.ndarray, row: int) -> np.ndarray:
    """Every byte of one row in a block."""
    header, groups = HEADER.get(name, 0), GROUPS.get(name, 1)
    size = FRONT[name] + CODES[name]
    found = [block[i + 2 * row :][:2] for i in range(0, header, 32)]
    for start in range(header, header + groups * size, size):
        front, width = block[start : start + FRONT[name]], 1 if name.endswith("_K") else 2
        found += [front[i + width * row :][:width] for i in range(0, FRONT[name], 16 * width)]
        codes = block[start + FRONT[name] : start + size]
        found += [codes[i + 4 * row :][:4] for i in range(0, CODES[name], 64)]
    return np.concatenate(found)


@pytest.mark.parametrize("form", QUANTIZED, ids=by_name)
def test_threads_and_slices_do_not_matter(form: Format, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, columns = 200, 2 * form.block
    raw = file_bytes(form, rows, columns)
    whole = packed(form, raw, rows, columns)
    np.testing.assert_array_equal(packed(form, raw, rows, columns, threads=5), whole)
    monkeypatch.setattr(packing, "_SLICE", 2 * len(whole) // 13 + 1)  # two strips at a time
    np.testing.assert_array_equal(packed(form, raw, rows, columns), whole)


@pytest.mark.parametrize("form", QUANTIZED, ids=by_name)
def test_a_strip_is_as_large_as_its_rows(form: Format) -> None:
    """No byte more than sixteen rows of the file, but for scales of K-formats that are stored whole."""
    layout = LAYOUTS[form.name]
    more = {"Q4_K": 64, "Q5_K": 64}.get(form.name, 0)
    assert layout.columns == form.block
    assert layout.nbytes == 16 * form.nbytes + more
