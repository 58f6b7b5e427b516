"""Model files on disk: opened once, mapped read-only, never read before they are needed.

A file that is *replaced* (renamed over) while it is open stays whole: the mapping keeps the old one. A file
that is *cut short in place* is lost, and touching a lost page would kill the process; `view`, and for views
that are kept `check_whole`, look at the size of the file first. The moment between that look and the read
remains: a process that must survive even that has to copy, as a server does with what its products read.
"""

from __future__ import annotations

import mmap
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ..errors import GemmaryError, ModelFileError

Bytes = npt.NDArray[np.uint8]


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading; ModelFileError for anything else (folder, pipe, device, nothing)."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe must not block
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise ModelFileError(path, f"cannot be opened: {getattr(error, 'strerror', error)}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ModelFileError(path, "is not a regular file")
    return os.fdopen(descriptor, "rb", buffering=1 << 18)


def read_small(path: Path, limit: int) -> bytes:
    """All bytes of a file that must not be longer than `limit`."""
    with open_regular(path) as file:
        try:
            data = file.read(limit + 1)
        except OSError as error:
            raise ModelFileError(path, f"cannot be read: {error.strerror}") from error
    if len(data) > limit:
        raise ModelFileError(path, f"is longer than {limit:,} bytes, far more than such a file needs")
    return data


def release(part: Bytes) -> None:
    """Give the memory behind a view of a `MappedFile` back to the system; who reads it again reads the file.

    Arrays that are no such view, and systems that have no such call, are left alone.
    """
    owner = _map_of(part)
    if owner is None or not hasattr(mmap, "MADV_DONTNEED"):
        return
    start = part.ctypes.data - np.frombuffer(owner, np.uint8).ctypes.data
    first = start // mmap.PAGESIZE * mmap.PAGESIZE
    owner.madvise(mmap.MADV_DONTNEED, first, start + part.nbytes - first)


def check_whole(part: Bytes) -> None:
    """GemmaryError if the file behind a view of a `MappedFile` is shorter than it was."""
    owner = _map_of(part)
    if owner is not None and owner.size() < len(owner):
        raise GemmaryError(
            "the model's file was cut short while the model was in use: put it back and load the model again"
        )


def _map_of(part: Bytes) -> mmap.mmap | None:
    owner: Any = part
    while isinstance(owner, np.ndarray):
        owner = owner.base
    owner = getattr(owner, "obj", owner)  # NumPy holds a map by a memoryview
    return owner if isinstance(owner, mmap.mmap) else None


class MappedFile:
    """A read-only memory map of a whole, non-empty file."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        try:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise ModelFileError(path, f"cannot be mapped into memory: {error}") from error
        self._bytes: Bytes = np.frombuffer(self._map, np.uint8)

    def __len__(self) -> int:
        return len(self._map)

    def view(self, start: int, count: int) -> Bytes:
        """Read-only uint8 view [count] of the file from `start`."""
        if self._map.size() < len(self._map):
            raise ModelFileError(self.path, "was cut short after it was opened; fetch it again")
        return self._bytes[start : start + count]
