"""Any quantized block, its format chosen at run time by ggml id, and runs of them, compiled."""

from __future__ import annotations

import numpy as np

from gemmary.formats.format import FORMATS
from gemmary.formats.halves import Floats
from gemmary.formats.jit import compiled, inlined
from gemmary.formats.k_blocks import pack_q6_k, unpack_q4_k, unpack_q5_k, unpack_q6_k
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

RUN = 16  # blocks that are decoded at a time


@compiled
def unpack_blocks(
    kind: int, raw: Bytes, offset: int, count: int, q: Codes, scale: Floats, add: Floats
) -> None:
    """Unpack `count` blocks from byte `offset` of `raw` into codes, scales and offsets: see `legacy_blocks`.

    q holds count blocks of codes, scale and add one number a group. `kind` is a ggml id; ValueError if it is
    not that of a quantized format. The format is chosen once, outside the loop: inside, it costs four times
    what a small block does.
    """
    if kind == Q4_0:
        for b in range(count):
            unpack_q4_0(raw, offset + 18 * b, q[32 * b :], scale[b:], add[b:])
    elif kind == Q4_1:
        for b in range(count):
            unpack_q4_1(raw, offset + 20 * b, q[32 * b :], scale[b:], add[b:])
    elif kind == Q5_0:
        for b in range(count):
            unpack_q5_0(raw, offset + 22 * b, q[32 * b :], scale[b:], add[b:])
    elif kind == Q5_1:
        for b in range(count):
            unpack_q5_1(raw, offset + 24 * b, q[32 * b :], scale[b:], add[b:])
    elif kind == Q8_0:
        for b in range(count):
            unpack_q8_0(raw, offset + 34 * b, q[32 * b :], scale[b:], add[b:])
    elif kind == Q4_K:
        for b in range(count):
            unpack_q4_k(raw, offset + 144 * b, q[256 * b :], scale[8 * b :], add[8 * b :])
    elif kind == Q5_K:
        for b in range(count):
            unpack_q5_k(raw, offset + 176 * b, q[256 * b :], scale[8 * b :], add[8 * b :])
    elif kind == Q6_K:
        for b in range(count):
            unpack_q6_k(raw, offset + 210 * b, q[256 * b :], scale[16 * b :], add[16 * b :])
    else:
        raise ValueError("this ggml id is not that of a quantized format")


@inlined
def pack_block(kind: int, values: Floats, block: Bytes) -> None:
    """Pack the float32 values of a block into its bytes: see `legacy_blocks` and `k_blocks`.

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
    elif kind == Q6_K:
        pack_q6_k(values, block)
    else:
        raise ValueError("this ggml id is not that of a format that is written in blocks")


@compiled
def decode_blocks(kind: int, raw: Bytes, block: int, nbytes: int, group: int, out: Floats) -> None:
    """Write the values of the blocks in `raw` to `out`; both 1-D. The three sizes are those of the Format."""
    run = RUN * block
    q = np.empty(run, np.int8)
    scale = np.empty(run // group, np.float32)
    add = np.empty(run // group, np.float32)
    for start in range(0, out.size, run):
        count = min(run, out.size - start)
        unpack_blocks(kind, raw, start // block * nbytes, count // block, q, scale, add)
        for g in range(count // group):
            for j in range(g * group, (g + 1) * group, WIDTH):
                spread(load(q, j), scale[g], add[g], out, start + j)


@compiled
def encode_blocks(kind: int, values: Floats, block: int, nbytes: int, raw: Bytes) -> None:
    """Write `values` as blocks to `raw`; both 1-D. The two sizes are those of the Format."""
    for b in range(values.size // block):
        pack_block(kind, values[b * block : (b + 1) * block], raw[b * nbytes : (b + 1) * nbytes])
