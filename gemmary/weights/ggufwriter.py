"""The bytes of a GGUF file, version 3: metadata, a table of tensors, the tensors in pieces."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np

from ..errors import GemmaryError
from .atomic import replacing
from .canonical import Shapes
from .recoded import Recoded
from .tensor import Tensor

Storable = Tensor | Recoded
Kind = TypeVar("Kind", bound=Storable)
Progress = Callable[[int, int], None]  # called with bytes written, and bytes in all

ALIGNMENT = 32
# general.file_type: how llama.cpp calls a file by the format of most of its matrices (llama.h, llama_ftype)
FILE_TYPES = {
    "F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "Q4_K": 15, "Q5_K": 17,
    "Q6_K": 18, "BF16": 32,
}  # fmt: skip
_KINDS = {
    "u1": 0, "i1": 1, "u2": 2, "i2": 3, "u4": 4, "i4": 5, "f4": 6, "b1": 7, "u8": 10, "i8": 11, "f8": 12,
}  # fmt: skip


def write_gguf_file(
    path: Path,
    metadata: Mapping[str, object],
    tensors: Mapping[str, Storable],
    progress: Progress | None = None,
) -> None:
    """Write tensors under the names given, atomically. GemmaryError: it cannot be written.

    `metadata`: str, bool, int, float, NumPy array, list of str or bytes.
    """
    table, offset = [], 0
    for name, tensor in tensors.items():
        table.append(_text(name) + _dimensions(tensor) + struct.pack("<Q", offset))
        offset += _padded(tensor.nbytes)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(table), len(metadata))
    head += b"".join(_text(key) + _value(value) for key, value in metadata.items()) + b"".join(table)
    with replacing(path) as file:
        file.write(head.ljust(_padded(len(head)), b"\0"))
        write_pieces(file, tensors.values(), progress, ALIGNMENT)


def checked(tensors: Mapping[str, Kind], expected: Shapes, path: Path) -> dict[str, Kind]:
    """`tensors` in the order of `expected`, if they are exactly those."""
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    wrong = [name for name in expected.keys() | shapes.keys() if expected.get(name) != shapes.get(name)]
    if wrong:
        name = min(wrong)
        raise GemmaryError(
            f"{path}: tensor {name!r} is {shapes.get(name)}, but the config calls for {expected.get(name)}"
        )
    return {name: tensors[name] for name in expected}


def file_type(tensors: Iterable[Storable]) -> int:
    """The format that most matrix bytes of the layers are in."""
    totals: dict[str, int] = {}
    for tensor in tensors:
        if tensor.name != "embed" and len(tensor.shape) == 2:
            totals[tensor.format.name] = totals.get(tensor.format.name, 0) + tensor.nbytes
    return FILE_TYPES[max(totals, key=totals.__getitem__)]


def write_pieces(
    file: BinaryIO, tensors: Iterable[Storable], progress: Progress | None, alignment: int = 1
) -> None:
    """Write tensors one after the other, each filled up to a multiple of `alignment` bytes."""
    tensors = list(tensors)
    done, total = 0, sum(tensor.nbytes for tensor in tensors)
    for tensor in tensors:
        for piece in tensor.pieces():
            file.write(piece.data)
            done += len(piece)
            if progress is not None:
                progress(done, total)
        file.write(bytes(-tensor.nbytes % alignment))


def _padded(count: int) -> int:
    return -(-count // ALIGNMENT) * ALIGNMENT


def _text(text: str | bytes) -> bytes:
    data = text.encode("utf-8") if isinstance(text, str) else text
    return struct.pack("<Q", len(data)) + data


def _dimensions(tensor: Storable) -> bytes:
    sizes = tensor.shape[::-1]
    return struct.pack(f"<I{len(sizes)}QI", len(sizes), *sizes, tensor.format.ggml_id)


def _value(value: object) -> bytes:
    """A metadata value with its type."""
    if isinstance(value, np.ndarray):
        little = value.astype(value.dtype.newbyteorder("<"))
        return struct.pack("<IIQ", 9, _KINDS[value.dtype.str[1:]], value.size) + little.tobytes()
    if isinstance(value, list):
        return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(_text, value))
    if isinstance(value, str):
        return struct.pack("<I", 8) + _text(value)
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        kind, code = (4, "I") if 0 <= value < 1 << 32 else (10, "Q") if value > 0 else (11, "q")
        return struct.pack("<I" + code, kind, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    raise TypeError(f"GGUF metadata cannot hold a {type(value).__name__}")
