"""The choice of a format at run time."""

from __future__ import annotations

import numpy as np
import pytest

from gemmary.formats import FORMATS, Format
from gemmary.formats.blocks import pack_block, unpack_blocks
from tests.formats.oracle import QUANTIZED, by_name, decoded, encoded, random_bytes, same_bits

FLOAT_IDS = [f.ggml_id for f in FORMATS.values() if not f.group]


@pytest.mark.parametrize("fmt", QUANTIZED, ids=by_name)
def test_id_chooses_the_format(fmt: Format) -> None:
    raw = random_bytes(fmt, 1, 2 * fmt.block, seed=fmt.ggml_id)
    q = np.empty(fmt.block, np.int8)
    scale, add = np.empty((2, fmt.block // fmt.group), np.float32)
    unpack_blocks(fmt.ggml_id, raw.reshape(-1), fmt.nbytes, 1, q, scale, add)
    with np.errstate(invalid="ignore"):
        values = q.reshape(-1, fmt.group).astype(np.float32) * scale[:, None] + add[:, None]
    assert same_bits(values.reshape(-1), decoded(fmt, raw)[0, fmt.block :])


@pytest.mark.parametrize("fmt", [f for f in QUANTIZED if f.block == 32], ids=by_name)
def test_id_chooses_how_to_write(fmt: Format) -> None:
    values = np.linspace(-1, 2, 32, dtype=np.float32)
    block = np.empty(fmt.nbytes, np.uint8)
    pack_block(fmt.ggml_id, values, block)
    assert block.tolist() == encoded(fmt, values.reshape(1, 32))[0].tolist()


def test_packing_six_bits_touches_only_its_bytes() -> None:
    fmt = FORMATS["Q6_K"]
    values = np.random.default_rng(2).standard_normal(256).astype(np.float32)
    raw = np.full(fmt.nbytes + 2, 0xA5, np.uint8)
    pack_block(fmt.ggml_id, values, raw[1:-1])
    assert np.abs(decoded(fmt, raw[None, 1:-1])[0] - values).max() < 0.06
    assert raw[0] == raw[-1] == 0xA5


@pytest.mark.parametrize("kind", [*FLOAT_IDS, 9, 10, -1])
def test_other_ids_are_refused(kind: int) -> None:
    raw, values = np.zeros(256, np.uint8), np.zeros(32, np.float32)
    q, scale, add = np.empty(256, np.int8), np.empty(16, np.float32), np.empty(16, np.float32)
    with pytest.raises(ValueError, match="not that of a quantized format"):
        unpack_blocks(kind, raw, 0, 1, q, scale, add)
    with pytest.raises(ValueError, match="not that of a format that is written"):
        pack_block(kind, values, raw)
