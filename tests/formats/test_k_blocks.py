"""One block of 256: its codes, and the scale and offset of each group."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from gemmary.formats import FORMATS, k_blocks
from tests.formats.oracle import decoded, random_bytes, same_bits

RANGES = {"Q4_K": (0, 15), "Q5_K": (0, 31), "Q6_K": (-32, 31)}


@pytest.mark.parametrize("name", RANGES)
def test_codes_scales_and_offsets_make_the_values(name: str) -> None:
    fmt = FORMATS[name]
    groups = 256 // fmt.group
    unpack: Callable[..., None] = getattr(k_blocks, f"unpack_{name.lower()}")
    raw = random_bytes(fmt, 100, 256)
    flat = np.concatenate([np.zeros(5, np.uint8), raw.reshape(-1)])
    q = np.full((100, 257), 99, np.int8)
    scale, add = np.zeros((100, groups + 1), "f4"), np.zeros((100, groups + 1), "f4")
    for b in range(100):
        unpack(flat, 5 + b * fmt.nbytes, q[b], scale[b], add[b])
    codes = q[:, :256]
    assert (codes.min(), codes.max()) == RANGES[name]
    assert (q[:, 256] == 99).all() and not scale[:, groups].any() and not add[:, groups].any()
    with np.errstate(invalid="ignore"):
        grouped = codes.reshape(100, groups, fmt.group).astype(np.float32)
        values = grouped * scale[:, :groups, None] + add[:, :groups, None]
    assert same_bits(values.reshape(100, 256), decoded(fmt, raw))
