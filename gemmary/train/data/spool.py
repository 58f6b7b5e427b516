"""Clean texts on disk, and a fixed record of each: what later stages ask for without reading texts again."""

from __future__ import annotations

import hashlib
import json
import mmap
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from .density import SIZE
from .sources import Picture, Record

ENTRY = np.dtype(
    [
        ("offset", "<u8"), ("bytes", "<u4"), ("note_bytes", "<u4"), ("chars", "<u4"), ("source", "<u4"),
        ("quality", "<f4"), ("last", "?"), ("picture", "?"), ("digest", "<u8", 2), ("embedding", "<f4", SIZE),
    ]
)  # fmt: skip


class SpoolWriter:
    """Appends texts to `folder`; `Spool` reads them once the block has ended."""

    def __init__(self, folder: Path) -> None:
        self._texts = (folder / "texts").open("wb")
        self._entries = (folder / "entries").open("wb")
        self._offset = 0

    def __enter__(self) -> SpoolWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._texts.close()
        self._entries.close()

    def add(self, record: Record, source: int, embedding: npt.NDArray[np.float32]) -> None:
        """A clean text of the source with that number."""
        picture = record.picture
        text = record.text.encode()
        note = json.dumps([record.place, *([picture.path, picture.digest] if picture else [])]).encode()
        entry = np.zeros((), ENTRY)
        entry["offset"], entry["bytes"], entry["note_bytes"] = self._offset, len(text), len(note)
        entry["picture"] = picture is not None
        entry["chars"], entry["source"], entry["quality"] = len(record.text), source, record.quality
        entry["last"], entry["digest"], entry["embedding"] = record.last, _digest(record), embedding
        self._texts.write(text + note)
        self._entries.write(entry.tobytes())
        self._offset += len(text) + len(note)


def _digest(record: Record) -> npt.NDArray[np.uint64]:
    content = record.text + (f"\0{record.picture.digest}" if record.picture else "")
    return np.frombuffer(hashlib.blake2b(content.encode(), digest_size=16).digest(), "<u8")


class Spool:
    """The texts that were kept, by number. entries: an array [texts] of `ENTRY`, memory-mapped."""

    def __init__(self, folder: Path) -> None:
        size = (folder / "entries").stat().st_size
        self.entries: npt.NDArray[Any] = np.zeros(0, ENTRY)
        if size:
            self.entries = np.memmap(folder / "entries", ENTRY, "r")
            with (folder / "texts").open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __len__(self) -> int:
        return len(self.entries)

    def text(self, number: int) -> str:
        """The text with that number."""
        entry = self.entries[number]
        start = int(entry["offset"])
        return self._map[start : start + int(entry["bytes"])].decode()

    def picture(self, number: int) -> Picture | None:
        """The picture before it."""
        return Picture(*self._note(number)[1:]) if self.entries["picture"][number] else None

    def place(self, number: int) -> str:
        """Where it was read."""
        return self._note(number)[0]

    def _note(self, number: int) -> list[str]:
        entry = self.entries[number]
        start = int(entry["offset"]) + int(entry["bytes"])
        return list(json.loads(self._map[start : start + int(entry["note_bytes"])]))
