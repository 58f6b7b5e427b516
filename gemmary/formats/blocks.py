"""Any quantized block, its format chosen at run time by ggml id, and runs of them, compiled."""

from __future__ import annotations

import numpy as np

from gemmary.formats.format import FORMATS
from gemmary.formats.halves import Floats
from gemmary.formats.jit import compiled, inlined
from gemmary.formats.k_blocks import unpack_q4_k, unpack_q5_k, unpack_q6_k
from gemmary.formats.lanes import WIDTH, load, spread
from gemmary.formats.legacy_blocks import (
    Bytes,
    Codes,
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

Q4_0 = FORMATS["Q4_0"].ggml_id
Q4_1 = FORMATS["Q4_1"].ggml_id
Q5_0 = FORMATS["Q5_0"].ggml_id
Q5_1 = FORMATS["Q5_1"].ggml_id
Q8_0 = FORMATS["Q8_0"].ggml_id
Q4_K = FORMATS["Q4_K"].ggml_id
Q5_K = FORMATS["Q5_K"].ggml_id
Q6_K = FORMATS["Q6_K"].ggml_id


@inlined
def unpack_block(kind: int, raw: Bytes, offset: int, q: Codes, scale: Floats, add: Floats) -> None:
    """Unpack the block at byte `offset` of `raw` into codes, scales and offsets: see `legacy_blocks`.

    `kind` is a ggml id; ValueError if it is not that of a quantized format.
    """
    if kind == Q4_0:
        unpack_q4_0(raw, offset, q, scale, add)
    elif kind == Q4_1:
        unpack_q4_1(raw, offset, q, scale, add)
    elif kind == Q5_0:
        unpack_q5_0(raw, offset, q, scale, add)
    elif kind == Q5_1:
        unpack_q5_1(raw, offset, q, scale, add)
    elif kind == Q8_0:
        unpack_q8_0(raw, offset, q, scale, add)
    elif kind == Q4_K:
        unpack_q4_k(raw, offset, q, scale, add)
    elif kind == Q5_K:
        unpack_q5_k(raw, offset, q, scale, add)
    elif kind == Q6_K:
        unpack_q6_k(raw, offset, q, scale, add)
    else:
        raise ValueError("this ggml id is not that of a quantized format")


@inlined
def pack_block(kind: int, values: Floats, block: Bytes) -> None:
    """Pack float32 [32] into the bytes of a block: see `legacy_blocks`.

    `kind` is a ggml id; ValueError if it is not that of a format that is written in blocks.
    """
    if kind == Q4_0:
        pack_q4_0(values, block)
    elif kind == Q4_1:
        pack_q4_1(values, block)
    elif kind == Q5_0:
        pack_q5_0(values, block)
    elif kind == Q5_1:
        pack_q5_1(values, block)
    elif kind == Q8_0:
        pack_q8_0(values, block)
    else:
        raise ValueError("this ggml id is not that of a format that is written in blocks")


@compiled
def decode_blocks(kind: int, raw: Bytes, block: int, nbytes: int, group: int, out: Floats) -> None:
    """Write the values of the blocks in `raw` to `out`; both 1-D. The three sizes are those of the Format."""
    q = np.empty(block, np.int8)
    scale = np.empty(block // group, np.float32)
    add = np.empty(block // group, np.float32)
    for b in range(out.size // block):
        unpack_block(kind, raw, b * nbytes, q, scale, add)
        for g in range(block // group):
            for j in range(g * group, (g + 1) * group, WIDTH):
                spread(load(q, j), scale[g], add[g], out, b * block + j)


@compiled
def encode_blocks(kind: int, values: Floats, block: int, nbytes: int, raw: Bytes) -> None:
    """Write `values` as blocks to `raw`; both 1-D. The two sizes are those of the Format."""
    for b in range(values.size // block):
        pack_block(kind, values[b * block : (b + 1) * block], raw[b * nbytes : (b + 1) * nbytes])
