"""TensorBoard's event files: a record a step, in the format that `tensorboard --logdir` reads.

A record is a length, its checksum, a protocol buffer (tensorflow/core/util/event.proto) and its checksum.
Written here, because the usual writer is a thread that a full disk kills and takes the run along; 4 fields
of 3 messages do not need a library. Nothing has to be installed to write them.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Mapping
from pathlib import Path

VERSION = b"brain.Event:2"
_WALL_TIME, _STEP, _FILE_VERSION, _SUMMARY, _SESSION = 1, 2, 3, 5, 7  # fields of Event


class EventFile:
    """A new event file in `folder`; what older ones there say of steps after `first` does not count.

    OSError: it cannot be written; what was written before is intact.
    """

    def __init__(self, folder: Path, first: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"events.out.tfevents.{time.time():.6f}.{os.getpid()}"
        self._write(_bytes(_FILE_VERSION, VERSION))
        self.back(first)

    def back(self, step: int) -> None:
        """The run goes on from `step`: whatever is known of later ones is void."""
        started = _bytes(_SESSION, _integer(1, 1))
        self._write(_integer(_STEP, step + 1) + started)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Scalars of a step, by name."""
        fields = (_bytes(1, name.encode()) + _tag(2, 5) + struct.pack("<f", v) for name, v in values.items())
        summary = b"".join(_bytes(1, field) for field in fields)
        self._write(_integer(_STEP, step) + _bytes(_SUMMARY, summary))

    def _write(self, event: bytes) -> None:
        data = _tag(_WALL_TIME, 1) + struct.pack("<d", time.time()) + event
        length = struct.pack("<Q", len(data))
        with self._path.open("ab", buffering=0) as file:
            size = file.tell()
            try:
                written = file.write(length + _checksum(length) + data + _checksum(data))
                if written != len(data) + 16:
                    raise OSError("the disk took a part of a record only")
            except OSError:
                file.truncate(size)  # half a record would hide those that follow
                raise


def _tag(field: int, wire: int) -> bytes:
    return _varint(field << 3 | wire)


def _integer(field: int, value: int) -> bytes:
    return _tag(field, 0) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _tag(field, 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the eighth says that more follow."""
    low = [value >> shift & 127 for shift in range(0, max(value.bit_length(), 1), 7)]
    return bytes([*(byte | 128 for byte in low[:-1]), low[-1]])


def _checksum(data: bytes) -> bytes:
    """CRC-32C, rotated and shifted, as TFRecord masks it."""
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def crc32c(data: bytes) -> int:
    """The checksum of Castagnoli's polynomial (RFC 3720, appendix B.4)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 255] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def _entry(crc: int) -> int:
    for _ in range(8):
        crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc


_TABLE = tuple(_entry(byte) for byte in range(256))
