"""Packed strips read back with NumPy, from the description in `gemmary.ops.numba.strips`."""

from __future__ import annotations

import numpy as np

ZERO = {"Q4_0": 8, "Q5_0": 16, "Q8_0": 0, "Q6_K": 32}
GROUPS = {"Q4_K": 8, "Q5_K": 8, "Q6_K": 8}
HEADER = {"Q4_K": 64, "Q5_K": 64, "Q6_K": 32}
FRONT = {"Q4_0": 32, "Q4_1": 64, "Q5_0": 32, "Q5_1": 64, "Q8_0": 32, "Q4_K": 32, "Q5_K": 32, "Q6_K": 32}
CODES = {
    "Q4_0": 256,
    "Q4_1": 256,
    "Q5_0": 320,
    "Q5_1": 320,
    "Q8_0": 512,
    "Q4_K": 256,
    "Q5_K": 320,
    "Q6_K": 384,
}


def codes_of(name: str, raw: np.ndarray) -> np.ndarray:
    """Codes of 32 columns of sixteen rows: int [16, 32] from the bytes behind a group's front."""
    if name == "Q8_0":
        vectors = raw.view(np.int8).reshape(8, 16, 4).astype(int)
    else:
        low = raw[:256].reshape(4, 16, 4).astype(int)
        vectors = np.concatenate([low & 15, low >> 4])
    for j in range(8):
        if name in ("Q5_0", "Q5_1", "Q5_K"):
            vectors[j] |= (raw[256:].reshape(16, 4).astype(int) >> j & 1) << 4
        if name == "Q6_K":
            vectors[j] |= (raw[256:].reshape(2, 16, 4)[j // 4].astype(int) >> 2 * (j % 4) & 3) << 4
    return vectors.transpose(1, 0, 2).reshape(16, 32)


def halves(raw: np.ndarray) -> np.ndarray:
    """Sixteen 16-bit numbers, one a row: float32 [16, 1]."""
    return raw.view("<f2").astype(np.float32)[:, None]


def values_of(name: str, header: np.ndarray, group: np.ndarray) -> np.ndarray:
    """The 32 columns of sixteen rows that a group stands for, with the roundings of the file's format."""
    front, codes = group[: FRONT[name]], codes_of(name, group[FRONT[name] :])
    number = np.float32
    if name in ("Q4_0", "Q5_0", "Q8_0"):
        return halves(front) * (codes - ZERO[name]).astype(number)
    if name in ("Q4_1", "Q5_1"):
        return halves(front[:32]) * codes.astype(number) - halves(front[32:])
    if name == "Q6_K":
        scales = np.repeat(front.view(np.int8).reshape(2, 16).T.astype(number), 16, -1)
        return halves(header) * scales * (codes - ZERO[name]).astype(number)
    scale, minimum = (front[16 * i :][:16, None].astype(number) for i in (0, 1))
    return halves(header[:32]) * scale * codes.astype(number) - halves(header[32:]) * minimum


def unpacked(name: str, strips: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """float32 [rows rounded up to 16, columns]."""
    groups, front = GROUPS.get(name, 1), HEADER.get(name, 0)
    nbytes = front + groups * (FRONT[name] + CODES[name])
    out = []
    for strip in strips.reshape(-(-rows // 16), columns // (32 * groups), nbytes):
        parts = [
            values_of(name, block[:front], group)
            for block in strip
            for group in block[front:].reshape(groups, -1)
        ]
        out.append(np.concatenate(parts, 1))
    return np.concatenate(out)
