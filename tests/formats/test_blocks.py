"""Runs of blocks: every length, at every place in a run."""

from __future__ import annotations

import numpy as np
import pytest

from gemmary.formats import Format
from gemmary.formats.blocks import PACK, RUN, block_decoder, block_encoder
from tests.formats.oracle import QUANTIZED, by_name, decoded, encoded, random_bytes, same_bits


@pytest.mark.parametrize("count", [1, RUN - 1, RUN, RUN + 1, 3 * RUN + 2])
@pytest.mark.parametrize("form", QUANTIZED, ids=by_name)
def test_a_run_of_any_length(form: Format, count: int) -> None:
    raw = random_bytes(form, 1, count * form.block, seed=form.ggml_id)
    raw.flags.writeable = False  # as from a file
    out = np.full(count * form.block + 1, 7, np.float32)
    block_decoder(form.name)(raw.reshape(-1), out[:-1])
    assert same_bits(out[None, :-1], decoded(form, raw))
    assert out[-1] == 7


@pytest.mark.parametrize("name", PACK)
def test_writing_a_run(name: str) -> None:
    form = next(form for form in QUANTIZED if form.name == name)
    values = np.linspace(-1, 2, form.block * 5, dtype=np.float32)
    raw = np.full(5 * form.nbytes + 1, 7, np.uint8)
    block_encoder(name)(values, raw[:-1])
    if name != "Q6_K":  # its search is our own
        assert raw[:-1].tolist() == encoded(form, values.reshape(1, -1))[0].tolist()
    assert np.abs(decoded(form, raw[None, :-1])[0] - values).max() < 0.13
    assert raw[-1] == 7
