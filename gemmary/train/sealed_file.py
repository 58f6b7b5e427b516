"""A file with a JSON header, plain bytes and a seal: mapped into memory, verified, without pickle.

8 bytes   what kind of file it is
uint32    length of the header
header    JSON, filled up with spaces so that the bytes begin at a multiple of 64
bytes     arrays, little-endian
32 bytes  SHA-256 of all before
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..weights.atomic import replacing

Array = npt.NDArray[Any]
ALIGN, SEAL = 64, 32
LONGEST_HEADER = 1 << 16


class ChangedError(ValueError):
    """The seal does not fit: the file was cut or changed since it was written."""


def write_sealed(path: Path, magic: bytes, header: dict[str, Any], arrays: Sequence[Array]) -> None:
    """Write `path` whole or not at all. GemmaryError: it cannot be written (disk full, ...)."""
    text = json.dumps(header).encode()
    text += b" " * (-(len(magic) + 4 + len(text)) % ALIGN)
    digest = hashlib.sha256()
    contents = (np.ascontiguousarray(array).tobytes() for array in arrays)
    with replacing(path) as file:
        for part in (magic, len(text).to_bytes(4, "little"), text, *contents):
            digest.update(part)
            file.write(part)
        file.write(digest.digest())


def open_sealed(path: Path, magic: bytes) -> tuple[dict[str, Any], Array]:
    """The header, and the bytes of the arrays, uint8, mapped.

    ChangedError: not what was written. OSError, ValueError: it cannot be read, or is another kind of file.
    """
    raw = np.memmap(path, np.uint8, "r")
    if hashlib.sha256(raw[:-SEAL].data).digest() != raw[-SEAL:].tobytes():
        raise ChangedError("it changed since it was written")
    fixed = len(magic) + 4
    length = int.from_bytes(raw[len(magic) : fixed].tobytes(), "little")
    if raw[: len(magic)].tobytes() != magic or not 0 < length <= LONGEST_HEADER:
        raise ValueError("it is another kind of file")
    header = json.loads(raw[fixed : fixed + length].tobytes())
    if not isinstance(header, dict):
        raise ValueError("its header is not an object")
    return header, raw[fixed + length : -SEAL]
