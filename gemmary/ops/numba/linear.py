"""Weights as they lie in the file, and the products over them.

A quantized row meets int8 activations: integer sums inside a group are exact, groups are added in order with
fused multiply-adds, so GEMV and GEMM, one thread and many, give the same bits. A float row meets float32.
Nothing is expanded: one block is unpacked at a time, into a few hundred bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import get_num_threads, njit, prange

from ...formats import Format
from ...formats.blocks import unpack_blocks
from ..contract import Floats
from .activation import BLOCK, SUM, Quantized
from .machine import WORTH_A_LAUNCH
from .scalar import fma
from .vector import dot16, dot32, dot_bf16, dot_f16, dot_f32

_FLOAT_BITS = {"F32": np.float32, "F16": np.uint16, "BF16": np.uint16}
_SLICES = 8  # pieces of work a thread: enough to even out, few enough to stay cheap
_ZERO = np.float32(0)


@dataclass(frozen=True)
class PackedLinear:
    """A weight [rows, columns] in its file format; `raw` may be a read-only memory map."""

    format: Format
    raw: npt.NDArray[np.uint8]
    rows: int
    columns: int

    @property
    def quantized(self) -> bool:
        """Whether it takes int8 activations."""
        return self.format.name not in _FLOAT_BITS

    @property
    def elements(self) -> np.ndarray:
        """The raw bytes as 16- or 32-bit words, for float formats."""
        return self.raw.view(_FLOAT_BITS[self.format.name])


def multiply(weight: PackedLinear, x: Floats, codes: Quantized | None) -> Floats:
    """x [T, columns] W^T -> [T, rows]. `codes` are x rounded, needed for a quantized weight."""
    out = np.empty((len(x), weight.rows), np.float32)
    small = len(x) * weight.rows * weight.columns < WORTH_A_LAUNCH
    pieces = 1 if small else min(weight.rows, get_num_threads() * _SLICES)
    if weight.quantized:
        if codes is None:
            raise ValueError(f"{weight.format.name} weights multiply rounded activations")
        form = weight.format
        work: tuple[Any, ...] = (form.ggml_id, weight.raw, form.block, form.nbytes, form.group)
        work += (codes.codes, codes.scales, codes.sums)
        kernels: tuple[Any, Any] = _integer_rows, _integer
    else:
        work = (weight.elements, x.reshape(-1), weight.columns)
        kernels = _FLOAT_KERNELS[weight.format.name]
    if small:
        kernels[0](*work, 0, weight.rows, out)
    else:
        kernels[1](*work, pieces, out)
    return out


def fetch(weight: PackedLinear, ids: np.ndarray) -> Floats:
    """Rows of a weight as float32 [len(ids), columns]."""
    from ...formats import decode

    size = weight.format.row_bytes(weight.columns)
    chosen = weight.raw.reshape(weight.rows, size)[ids]
    return decode(weight.format, chosen.reshape(-1), len(ids), weight.columns)


@njit(cache=True, nogil=True, error_model="numpy")
def _integer_rows(
    kind: int, raw: np.ndarray, block: int, nbytes: int, group: int,
    codes: np.ndarray, scales: np.ndarray, sums: np.ndarray, begin: int, end: int, out: np.ndarray,
) -> None:  # fmt: skip
    """Rows begin..end of the product. A row is unpacked once, then meets every token."""
    tokens, columns = codes.shape
    flat = codes.reshape(-1)
    blocks = columns // block
    q = np.empty(columns, np.int8)
    scale = np.empty(columns // group, np.float32)
    add = np.empty(columns // group, np.float32)
    for row in range(begin, end):
        unpack_blocks(kind, raw, row * blocks * nbytes, blocks, q, scale, add)
        for t in range(tokens):
            if group == BLOCK:
                out[t, row] = _dot_by_32(q, scale, add, flat, t * columns, scales[t], sums[t])
            else:
                out[t, row] = _dot_by_16(q, scale, flat, t * columns, scales[t])


@njit(parallel=True, cache=True, nogil=True, error_model="numpy")
def _integer(
    kind: int, raw: np.ndarray, block: int, nbytes: int, group: int,
    codes: np.ndarray, scales: np.ndarray, sums: np.ndarray, pieces: int, out: np.ndarray,
) -> None:  # fmt: skip
    rows = out.shape[1]
    for piece in prange(pieces):
        begin, end = piece * rows // pieces, (piece + 1) * rows // pieces
        _integer_rows(kind, raw, block, nbytes, group, codes, scales, sums, begin, end, out)


@njit(inline="always", error_model="numpy")
def _dot_by_32(
    q: np.ndarray, scale: np.ndarray, add: np.ndarray,
    flat: np.ndarray, at: int, steps: np.ndarray, sums: np.ndarray,
) -> np.float32:  # fmt: skip
    """A row in groups of 32 times the token at flat[at]: groups in order, product before offset."""
    total = _ZERO
    for g in range(len(scale)):
        whole = np.float32(dot32(q, g * BLOCK, flat, at + g * BLOCK))
        total = fma(whole, np.float32(scale[g] * steps[g]), total)
        if add[g] != _ZERO:
            count = np.float32(sums[2 * g] + sums[2 * g + 1])
            total = fma(count, np.float32(add[g] * steps[g]), total)
    return total


@njit(inline="always", error_model="numpy")
def _dot_by_16(q: np.ndarray, scale: np.ndarray, flat: np.ndarray, at: int, steps: np.ndarray) -> np.float32:
    """A row in groups of 16 (Q6_K, which has no offsets) times the token at flat[at]."""
    total = _ZERO
    for g in range(len(scale)):
        whole = np.float32(dot16(q, g * SUM, flat, at + g * SUM))
        total = fma(whole, np.float32(scale[g] * steps[g // 2]), total)
    return total


# The three float kernels differ in the dot product only: Numba caches named functions, not closures over one.


@njit(cache=True, nogil=True)
def _float32_rows(w: np.ndarray, x: np.ndarray, columns: int, begin: int, end: int, out: np.ndarray) -> None:
    for row in range(begin, end):
        for t in range(out.shape[0]):
            out[t, row] = dot_f32(w, row * columns, x, t * columns, columns)


@njit(parallel=True, cache=True, nogil=True)
def _float32(w: np.ndarray, x: np.ndarray, columns: int, pieces: int, out: np.ndarray) -> None:
    rows = out.shape[1]
    for piece in prange(pieces):
        _float32_rows(w, x, columns, piece * rows // pieces, (piece + 1) * rows // pieces, out)


@njit(cache=True, nogil=True)
def _float16_rows(w: np.ndarray, x: np.ndarray, columns: int, begin: int, end: int, out: np.ndarray) -> None:
    for row in range(begin, end):
        for t in range(out.shape[0]):
            out[t, row] = dot_f16(w, row * columns, x, t * columns, columns)


@njit(parallel=True, cache=True, nogil=True)
def _float16(w: np.ndarray, x: np.ndarray, columns: int, pieces: int, out: np.ndarray) -> None:
    rows = out.shape[1]
    for piece in prange(pieces):
        _float16_rows(w, x, columns, piece * rows // pieces, (piece + 1) * rows // pieces, out)


@njit(cache=True, nogil=True)
def _bfloat16_rows(w: np.ndarray, x: np.ndarray, columns: int, begin: int, end: int, out: np.ndarray) -> None:
    for row in range(begin, end):
        for t in range(out.shape[0]):
            out[t, row] = dot_bf16(w, row * columns, x, t * columns, columns)


@njit(parallel=True, cache=True, nogil=True)
def _bfloat16(w: np.ndarray, x: np.ndarray, columns: int, pieces: int, out: np.ndarray) -> None:
    rows = out.shape[1]
    for piece in prange(pieces):
        _bfloat16_rows(w, x, columns, piece * rows // pieces, (piece + 1) * rows // pieces, out)


_FLOAT_KERNELS = {
    "F32": (_float32_rows, _float32),
    "F16": (_float16_rows, _float16),
    "BF16": (_bfloat16_rows, _bfloat16),
}
