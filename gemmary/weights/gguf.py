"""GGUF, versions 2 and 3, little-endian: a bounded reader for files that nobody vouches for.

Every length is compared with what is left of the file before anything is allocated or looped over; arithmetic
is in Python's integers, which do not wrap; tensors must lie side by side, without overlap or holes
(the layout is that of ggml's docs/gguf.md). Only the header is read, never a tensor.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..errors import ModelFileError, UnsupportedModelError
from ..formats import FORMATS, Format
from .fields import DIMENSION, shown
from .mapped import Bytes, MappedFile, open_regular
from .tensor import TensorInfo

KEYS = 4096
TENSORS = 65_536
KEY_BYTES = 65_535
NAME_BYTES = 64
TEXT_BYTES = 1 << 20  # one string; a chat template is the longest there is
ALL_TEXT = 16 << 20  # strings outside of arrays, together: decoding can take 4 bytes for one
ALL_STRINGS = 1 << 20  # strings in arrays, together: 262,144 tokens and, in some files, 514,906 merges
DIMENSIONS = 4
ALIGNMENT = 32
MAX_ALIGNMENT = 1 << 16

UINT32, BOOL, STRING, ARRAY = 4, 7, 8, 9
NUMBERS = {
    0: "u1", 1: "i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 10: "<u8", 11: "<i8", 12: "<f8",
}  # fmt: skip
# Names for messages only: what else a GGUF file may hold (ggml.h).
KINDS = {
    9: "Q8_1", 10: "Q2_K", 11: "Q3_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S",
    20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64",
    28: "F64", 29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4",
}  # fmt: skip

_BY_ID = {format.ggml_id: format for format in FORMATS.values()}
_LENGTH = struct.Struct("<Q").unpack
_WORD = struct.Struct("<I").unpack


class _Header:
    """The bytes of a header, taken in order and never past the end of the file."""

    def __init__(self, path: Path, file: BinaryIO, size: int) -> None:
        self.path = path
        self.file = file
        self.size = size
        self.position = 0
        self.text_left = ALL_TEXT
        self.strings_left = ALL_STRINGS
        self.place = "the header"  # what is being read, for messages

    def fault(self, sentence: str) -> ModelFileError:
        return ModelFileError(self.path, f"{self.place} {sentence}")

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        if count > self.size - self.position:
            raise self.fault(f"runs past the end of the file, {self.size:,} bytes long")
        data = self.file.read(count)
        if len(data) != count:
            raise self.fault("ended early: the file is being changed")
        self.position += count
        return data

    def word(self) -> int:
        value: int = _WORD(self.take(4))[0]
        return value

    def length(self) -> int:
        value: int = _LENGTH(self.take(8))[0]
        return value

    def text(self, limit: int) -> str:
        """A string of at most `limit` bytes, which must be UTF-8."""
        count = self.length()
        if count > (allowed := min(limit, self.text_left)):
            raise self.fault(f"has a text of {count:,} bytes, more than the {allowed:,} allowed")
        self.text_left -= count
        try:
            return self.take(count).decode("utf-8")
        except UnicodeDecodeError:
            raise self.fault("has a text that is not UTF-8") from None

    def strings(self, count: int) -> list[bytes]:
        """`count` strings of an array, as bytes. A vocabulary has 262,144 of them: no calls to spare."""
        if count > self.strings_left or 8 * count > self.size - self.position:
            raise self.fault(f"claims {count:,} strings, more than the file can hold")
        self.strings_left -= count
        read, left, strings = self.file.read, self.size - self.position, []
        for _ in range(count):
            head = read(8)
            length = _LENGTH(head)[0] if len(head) == 8 else left
            left -= 8 + length
            if length > TEXT_BYTES or left < 0:
                raise self.fault("has a string that is too long or runs past the end of the file")
            strings.append(read(length))
        self.position = self.size - left
        if self.file.tell() != self.position:
            raise self.fault("ended early: the file is being changed")
        return strings

    def numbers(self, kind: int, count: int) -> np.ndarray[tuple[int], np.dtype[np.generic]]:
        """`count` numbers or truth values, read-only."""
        if kind == BOOL:
            truths = np.frombuffer(self.take(count), np.uint8)
            if truths.size and truths.max() > 1:
                raise self.fault("has a truth value that is neither 0 nor 1")
            return truths.view(np.bool_)
        if kind not in NUMBERS:
            raise self.fault(f"has the unknown value type {kind}")
        dtype = np.dtype(NUMBERS[kind])
        return np.frombuffer(self.take(count * dtype.itemsize), dtype)

    def value(self, kind: int) -> object:
        """A metadata value: int, float, bool, str, a NumPy array, or a list of bytes (array of strings)."""
        if kind == STRING:
            return self.text(TEXT_BYTES)
        if kind != ARRAY:
            return self.numbers(kind, 1)[0].item()
        element, count = self.word(), self.length()
        if element == ARRAY:
            raise self.fault("is an array of arrays, which no Gemma file has")
        return self.strings(count) if element == STRING else self.numbers(element, count)


class GGUFFile:
    """A parsed GGUF file: `metadata` (see _Header.value for its types) and `tensors`, in the file's order."""

    def __init__(
        self, path: Path, metadata: dict[str, object], tensors: dict[str, TensorInfo], size: int
    ) -> None:
        self.path = path
        self.metadata = metadata
        self.tensors = tensors
        self.size = size

    def raw(self, name: str) -> Bytes:
        """The stored bytes of a tensor: a read-only view [nbytes] of the memory map."""
        return self.tensors[name].raw()


def read_gguf(path: str | os.PathLike[str]) -> GGUFFile:
    """Parse the header of a GGUF file and map its tensors; no tensor is read.

    ModelFileError: damaged or hostile; the message names the fault. UnsupportedModelError: sound, but
    big-endian or of another version.
    """
    path = Path(path)
    with open_regular(path) as file:
        try:
            return _parse(_Header(path, file, os.fstat(file.fileno()).st_size))
        except OSError as error:
            raise ModelFileError(path, f"cannot be read: {error.strerror}") from error


def _parse(header: _Header) -> GGUFFile:
    tensors, keys = _counts(header)
    metadata = _metadata(header, keys)
    alignment = _alignment(header, metadata)
    entries = [_entry(header) for _ in range(tensors)]
    header.place = "the tensor table"
    table = _table(header, entries, alignment, MappedFile(header.path, header.file))
    return GGUFFile(header.path, metadata, table, header.size)


def _counts(header: _Header) -> tuple[int, int]:
    if header.size < 24 or header.take(4) != b"GGUF":
        raise ModelFileError(header.path, "is not a GGUF file: it does not begin with 'GGUF'")
    version = header.word()
    if version not in (2, 3):
        kind = "big-endian" if version and version & 0xFFFF == 0 else f"version {version}"
        raise UnsupportedModelError(
            f"{header.path}: this GGUF file is {kind}; Gemmary reads little-endian versions 2 and 3. "
            "Convert the model again with a current llama.cpp"
        )
    tensors, keys = header.length(), header.length()
    if tensors > TENSORS or keys > KEYS:
        raise header.fault(f"claims {tensors:,} tensors and {keys:,} keys, more than any model has")
    return tensors, keys


def _metadata(header: _Header, keys: int) -> dict[str, object]:
    metadata: dict[str, object] = {}
    for index in range(keys):
        header.place = f"metadata key {index}"
        key = header.text(KEY_BYTES)
        header.place = f"metadata {shown(key)}"
        if not key or key in metadata:
            raise header.fault("appears twice" if key else "has an empty name")
        kind = header.word()
        if key == "general.alignment" and kind != UINT32:
            raise header.fault("must be a whole number of 32 bits")
        metadata[key] = header.value(kind)
    return metadata


def _alignment(header: _Header, metadata: dict[str, object]) -> int:
    value = metadata.get("general.alignment", ALIGNMENT)
    if not isinstance(value, int) or not 8 <= value <= MAX_ALIGNMENT or value & (value - 1):
        raise ModelFileError(
            header.path,
            f"general.alignment is {shown(value)}, but must be a power of two from 8 to {MAX_ALIGNMENT}",
        )
    return value


_Entry = tuple[str, tuple[int, ...], int, int]  # name, shape, ggml type, offset


def _entry(header: _Header) -> _Entry:
    header.place = "the tensor table"
    name = header.text(NAME_BYTES)
    header.place = f"tensor {shown(name)}"
    count = header.word()
    if not name or not 1 <= count <= DIMENSIONS:
        raise header.fault(f"has {count} dimensions, but must have a name and 1 to {DIMENSIONS}")
    shape = struct.unpack(f"<{count}Q", header.take(8 * count))[::-1]
    if not all(1 <= size < DIMENSION for size in shape):
        raise header.fault(f"has the shape {list(shape)}, with a side that is zero or too long")
    kind, offset = header.word(), header.length()
    return name, shape, kind, offset


def _padded(position: int, alignment: int) -> int:
    return -(-position // alignment) * alignment


def _nbytes(fault: Callable[[str], ModelFileError], shape: tuple[int, ...], format: Format) -> int:
    if shape[-1] % format.block:
        raise fault(f"has rows of {shape[-1]} numbers, not a multiple of the {format.block} of {format.name}")
    rows = 1
    for size in shape[:-1]:
        rows *= size
    return rows * format.row_bytes(shape[-1])


def _table(header: _Header, entries: list[_Entry], alignment: int, file: MappedFile) -> dict[str, TensorInfo]:
    """Check that the tensors lie side by side from here to the end of the file, and describe them."""
    table: dict[str, TensorInfo] = {}
    start = end = _padded(header.position, alignment)
    ordered = sorted(entries, key=lambda entry: entry[3])
    borders = [start + entry[3] for entry in ordered] + [header.size]
    for (name, shape, kind, offset), after in zip(ordered, borders[1:], strict=True):
        header.place = f"tensor {shown(name)}"
        begin = _padded(end, alignment)
        if name in table:
            raise header.fault("appears twice")
        if start + offset != begin:
            where = "overlaps the tensor before it" if start + offset < begin else "leaves a hole before it"
            raise header.fault(f"at offset {offset:,} {where}")
        format = _BY_ID.get(kind)
        # The size of an unknown format is not known: such a tensor reaches to the next one.
        nbytes = after - begin if format is None else _nbytes(header.fault, shape, format)
        end = begin + nbytes
        if nbytes <= 0:
            raise header.fault("overlaps the tensor after it")
        if end > header.size:
            raise header.fault(
                f"runs past the end of the file, {header.size:,} bytes long: is the download complete?"
            )
        word = KINDS.get(kind, f"ggml type {kind}") if format is None else format.name
        table[name] = TensorInfo(name, shape, format, word, begin, nbytes, file)
    if entries and header.size - end >= alignment:
        raise header.fault(f"is the last one, but {header.size - end:,} more bytes follow")
    return {name: table[name] for name, *_ in entries}
