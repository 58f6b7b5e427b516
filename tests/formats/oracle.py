"""The `gguf` package as the independent word on what bytes mean."""

from __future__ import annotations

import numpy as np
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize
from numpy.typing import NDArray

from gemmary.formats import FORMATS, Format

QUANTIZED = [f for f in FORMATS.values() if f.group]
WRITTEN = [f for f in FORMATS.values() if not f.name.endswith("_K")]


def by_name(fmt: Format) -> str:
    """Names the test cases."""
    return fmt.name


def decoded(fmt: Format, raw: NDArray[np.uint8]) -> NDArray[np.float32]:
    """uint8 [rows, row_bytes] -> float32 [rows, columns]."""
    with np.errstate(all="ignore"):
        return np.asarray(dequantize(raw, GGMLQuantizationType[fmt.name]))


def encoded(fmt: Format, values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """float32 [rows, columns] -> uint8 [rows, row_bytes]."""
    with np.errstate(all="ignore"):
        raw = np.asarray(quantize(values, GGMLQuantizationType[fmt.name]))
    return raw.view(np.uint8).reshape(len(values), -1)


def same_bits(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> bool:
    """Equal bit for bit, signs of zeros too; any NaN equals any NaN."""
    equal = ours.view(np.uint32) == theirs.view(np.uint32)
    return ours.shape == theirs.shape and bool((equal | (np.isnan(ours) & np.isnan(theirs))).all())


def random_bytes(fmt: Format, rows: int, columns: int, seed: int = 0) -> NDArray[np.uint8]:
    """Any bytes at all: their scales are often huge, subnormal, negative, infinite or NaN."""
    return np.random.default_rng(seed).integers(0, 256, (rows, fmt.row_bytes(columns)), dtype=np.uint8)
