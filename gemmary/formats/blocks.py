"""Runs of quantized blocks, compiled for each format on its own: nobody waits for the others."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from gemmary.formats.format import FORMATS
from gemmary.formats.halves import Floats
from gemmary.formats.jit import compiled
from gemmary.formats.k_blocks import pack_q6_k, unpack_q4_k, unpack_q5_k, unpack_q6_k
from gemmary.formats.lanes import WIDTH, load, spread
from gemmary.formats.legacy_blocks import (
    Bytes,
    pack_q4_0,
    pack_q4_1,
    pack_q5_0,
    pack_q5_1,
    pack_q8_0,
    unpack_q4_0,
    unpack_q4_1,
    unpack_q5_0,
    unpack_q5_1,
    unpack_q8_0,
)

RUN = 16  # blocks that are decoded at a time

UNPACK = {
    "Q4_0": unpack_q4_0, "Q4_1": unpack_q4_1, "Q5_0": unpack_q5_0, "Q5_1": unpack_q5_1, "Q8_0": unpack_q8_0,
    "Q4_K": unpack_q4_k, "Q5_K": unpack_q5_k, "Q6_K": unpack_q6_k,
}  # fmt: skip
PACK = {
    "Q4_0": pack_q4_0, "Q4_1": pack_q4_1, "Q5_0": pack_q5_0, "Q5_1": pack_q5_1, "Q8_0": pack_q8_0,
    "Q6_K": pack_q6_k,
}  # fmt: skip


@cache
def block_decoder(name: str) -> Callable[[Bytes, Floats], None]:
    """Compiled decoder(raw, out) of a quantized format: writes the values of blocks; both are 1-D."""
    unpack, form = UNPACK[name], FORMATS[name]
    block, nbytes, group = form.block, form.nbytes, form.group

    def decode_blocks(raw: Bytes, out: Floats) -> None:
        q = np.empty(RUN * block, np.int8)
        scale = np.empty(RUN * block // group, np.float32)
        add = np.empty(RUN * block // group, np.float32)
        for start in range(0, out.size // block, RUN):
            count = min(RUN, out.size // block - start)
            for b in range(count):
                first = b * block // group
                unpack(raw, (start + b) * nbytes, q[b * block :], scale[first:], add[first:])
            for g in range(count * block // group):
                for j in range(g * group, (g + 1) * group, WIDTH):
                    spread(load(q, j), scale[g], add[g], out, start * block + j)

    decoder: Callable[[Bytes, Floats], None] = compiled(decode_blocks)
    return decoder


@cache
def block_encoder(name: str) -> Callable[[Floats, Bytes], None]:
    """Compiled encoder(values, raw) of a format that is written: blocks of the values; both 1-D."""
    pack, form = PACK[name], FORMATS[name]
    block, nbytes = form.block, form.nbytes

    def encode_blocks(values: Floats, raw: Bytes) -> None:
        for b in range(values.size // block):
            pack(values[b * block : (b + 1) * block], raw[b * nbytes : (b + 1) * nbytes])

    encoder: Callable[[Floats, Bytes], None] = compiled(encode_blocks)
    return encoder
