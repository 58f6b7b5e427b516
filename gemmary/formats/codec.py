"""Whole tensors between bytes and float32. Numba is imported on first use, not on import."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

from gemmary.formats.format import Format, FormatError

Element = TypeVar("Element", np.uint8, np.float32)

# Halves at the head of each block that is written: scale, and minimum where there is one.
WRITTEN_HALVES = {"Q4_0": 1, "Q4_1": 2, "Q5_0": 1, "Q5_1": 2, "Q8_0": 1}


def decode(fmt: Format, raw: npt.NDArray[np.uint8], rows: int, columns: int) -> npt.NDArray[np.float32]:
    """The values of a tensor as a new float32 [rows, columns].

    `raw` is its bytes, uint8 and contiguous, of any shape; a read-only memory map will do. FormatError if
    their number does not fit the shape. Infinite and NaN scales are no error: they give such values.
    """
    expected = rows * fmt.row_bytes(columns)
    if rows < 0 or raw.dtype != np.uint8 or raw.size != expected or not raw.flags.c_contiguous:
        raise FormatError(
            f"{rows} x {columns} values in {fmt.name} need {expected} contiguous bytes, not {raw.size} "
            f"{'' if raw.flags.c_contiguous else 'scattered '}elements of {raw.dtype}"
        )
    flat = _flat(raw)
    out = np.empty(rows * columns, np.float32)
    if fmt.name == "F32":
        out[:] = flat.view("<f4")
    elif fmt.group:
        from gemmary.formats.blocks import block_decoder

        block_decoder(fmt.name)(flat, out)
    else:
        from gemmary.formats.halves import widen_bfloats, widen_halves

        (widen_halves if fmt.name == "F16" else widen_bfloats)(flat.view("<u2"), out)
    return out.reshape(rows, columns)


def encode(fmt: Format, values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """float32 [rows, columns] as uint8 [rows, row_bytes], bit for bit as ggml's reference quantizers.

    F16 and BF16 round to the nearest even; too large becomes infinite, and NaN stays NaN. Blocks hold finite
    values only. FormatError for other values, for rows that do not divide into blocks, and for K-quants.
    """
    if values.dtype != np.float32 or values.ndim != 2:
        raise FormatError(f"only a float32 matrix can be encoded, not {values.dtype} {list(values.shape)}")
    rows, columns = values.shape
    shape = (rows, fmt.row_bytes(columns))
    if fmt.name == "F32":
        return np.array(values, "<f4", order="C").view(np.uint8).reshape(shape)
    if fmt.name == "F16":
        with np.errstate(over="ignore"):
            return values.astype("<f2", order="C").view(np.uint8).reshape(shape)
    flat = _flat(values)
    if fmt.name == "BF16":
        from gemmary.formats.halves import narrow_to_bfloats

        bfloats = np.empty(flat.size, "<u2")
        narrow_to_bfloats(flat, bfloats)
        return bfloats.view(np.uint8).reshape(shape)
    return _encode_blocks(fmt, flat).reshape(shape)


def _flat(array: npt.NDArray[Element]) -> npt.NDArray[Element]:
    """A contiguous 1-D view, read-only: compiled code meets one type, whatever the caller has."""
    flat = np.ascontiguousarray(array).reshape(-1)
    flat.flags.writeable = False
    return flat


def _encode_blocks(fmt: Format, flat: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """float32 [n] as uint8 [bytes]."""
    from gemmary.formats.blocks import block_encoder

    if fmt.name not in WRITTEN_HALVES:
        raise FormatError(f"{fmt.name} is read, not written: encode to one of {', '.join(WRITTEN_HALVES)}")
    if not np.isfinite(flat).all():
        raise FormatError(f"{fmt.name} cannot hold infinity or NaN: the source tensor is damaged")
    raw = np.empty(flat.size // fmt.block * fmt.nbytes, np.uint8)
    block_encoder(fmt.name)(flat, raw)
    heads = raw.reshape(-1, fmt.nbytes)[:, : 2 * WRITTEN_HALVES[fmt.name]]
    if not np.isfinite(np.ascontiguousarray(heads).view("<f2")).all():
        raise FormatError(f"values this large overflow the 16-bit scales of {fmt.name}: encode to BF16")
    return raw
