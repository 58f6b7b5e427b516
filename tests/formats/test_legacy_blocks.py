"""One block of 32: its codes, scale and offset, and the corners of the quantizers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from gemmary.formats import FORMATS
from gemmary.formats import legacy_blocks as blocks
from tests.formats.oracle import decoded, encoded, random_bytes, same_bits

RANGES = {"Q4_0": (-8, 7), "Q4_1": (0, 15), "Q5_0": (-16, 15), "Q5_1": (0, 31), "Q8_0": (-128, 127)}


@pytest.mark.parametrize("name", RANGES)
def test_codes_scale_and_offset_make_the_values(name: str) -> None:
    fmt = FORMATS[name]
    unpack: Callable[..., None] = getattr(blocks, f"unpack_{name.lower()}")
    raw = random_bytes(fmt, 200, 32)
    flat = np.concatenate([np.zeros(3, np.uint8), raw.reshape(-1)])
    q, scale, add = np.full((200, 33), 99, np.int8), np.zeros((200, 2), "f4"), np.zeros((200, 2), "f4")
    for b in range(200):
        unpack(flat, 3 + b * fmt.nbytes, q[b], scale[b], add[b])
    codes = q[:, :32]
    assert (codes.min(), codes.max()) == RANGES[name]
    assert (q[:, 32] == 99).all() and not scale[:, 1].any() and not add[:, 1].any()
    with np.errstate(invalid="ignore"):
        values = codes.astype(np.float32) * scale[:, :1] + add[:, :1]
    assert same_bits(values, decoded(fmt, raw))


def test_nibbles_of_a_block_written_by_hand() -> None:
    raw = np.array([0x00, 0xBC, *(0x10 * (15 - j) + j for j in range(16))], np.uint8)  # d = -1
    q, scale, add = np.empty(32, np.int8), np.empty(1, np.float32), np.empty(1, np.float32)
    blocks.unpack_q4_0(raw, 0, q, scale, add)
    assert q.tolist() == [*range(-8, 8), *range(7, -9, -1)]
    assert (scale[0], add[0], np.signbit(add[0])) == (-1, 0, True)


@pytest.mark.parametrize("name", RANGES)
def test_packing_a_block_touches_only_its_bytes(name: str) -> None:
    fmt = FORMATS[name]
    pack: Callable[..., None] = getattr(blocks, f"pack_{name.lower()}")
    values = np.random.default_rng(2).standard_normal(32).astype(np.float32)
    raw = np.full(fmt.nbytes + 2, 0xA5, np.uint8)
    pack(values, raw[1:-1])
    assert raw[1:-1].tolist() == encoded(fmt, values.reshape(1, 32))[0].tolist()
    assert raw[0] == raw[-1] == 0xA5
