"""int4 per channel: one scale a row, codes -8..7, written as Q4_0 blocks that all carry the row's scale.

Every reader of Q4_0 reads it; a reader that knows needs the scale once a row. Gemma's own int4 has the scale
absmax / 7 (the published QAT checkpoints): weights that lie on that grid, or on absmax / 8, are kept as
they are.
"""

from __future__ import annotations

import numpy as np

from gemmary.formats.fitting import clipped, fitted
from gemmary.formats.halves import Floats
from gemmary.formats.jit import compiled, inlined
from gemmary.formats.legacy_blocks import Bytes, half_at, put_half

LOW = -8
FIRST, STEP, TRIES = -7.0, -1.0, 14  # a row's largest value may be up to 2.5 times what its codes reach


@compiled
def encode_rows(values: Floats, raw: Bytes) -> None:
    """Write float32 [rows, columns] as blocks of Q4_0 to uint8 [rows, row_bytes]."""
    for r in range(values.shape[0]):
        put_half(raw[r], 0, fitted(values[r], LOW, FIRST, STEP, TRIES))
        for b in range(values.shape[1] // 32):
            pack_row_block(values[r, 32 * b : 32 * b + 32], raw[r], raw[r, 18 * b : 18 * b + 18])


@inlined
def pack_row_block(values: Floats, row: Bytes, block: Bytes) -> None:
    """A block with the scale that stands at the beginning of its row."""
    block[0], block[1] = row[0], row[1]
    d = half_at(row, 0)
    inverse = np.float32(1) / d if d != np.float32(0) else np.float32(0)
    for j in range(16):
        a = int(clipped(values[j] * inverse, LOW)) - LOW
        b = int(clipped(values[16 + j] * inverse, LOW)) - LOW
        block[2 + j] = np.uint8(a | (b << 4))
