"""A file of a teacher's targets, for random access by token: a sealed file (sealed_file.py) of three arrays.

    uint32    starts [tokens + 1]: where the entries of each token begin
    uint16    gaps [entries]: an id, less the id of the entry before it in the same token (less 0: the first)
    float16 or uint8  values [entries]: probabilities, or how often an id was drawn

Everything is little-endian. A gap that 16 bits do not hold is bridged by entries of value 0, which weigh
nothing. An id that all of 256 draws fell on has the byte 0: the last entry of a token takes what is missing
to the number of draws. The header has the sizes of the arrays and what the caller wants to find again: at
least "vocabulary", "draws" and "reading", which names the kind of values.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import GemmaryError
from .sealed_file import ChangedError, open_sealed, write_sealed

Array = npt.NDArray[Any]
MAGIC = b"GEMTGT1\n"
WIDEST = np.iinfo(np.uint16).max
COUNTS = 256  # most draws that a byte can count
KINDS: dict[str, np.dtype[Any]] = {"counts": np.dtype("u1"), "renormalised": np.dtype("<f2")}


class TargetsError(GemmaryError):
    """A file of targets is damaged, or belongs to another teacher or other data."""

    def __init__(self, path: Path, fault: str) -> None:
        super().__init__(
            f"{path}: {fault}; remove it and write the targets again, which keeps those that are whole"
        )


@dataclass(frozen=True)
class Entries:
    """Targets of some tokens: `lengths` [tokens] entries each, in one row: ids ascend within a token."""

    lengths: Array
    ids: Array
    values: Array

    def bridged(self) -> tuple[Array, Array, Array]:
        """Starts, gaps and values as they lie in the file."""
        starts = np.append(0, np.cumsum(self.lengths)).astype(np.int64)
        gaps: Array = np.diff(self.ids.astype(np.int64), prepend=0)
        first = starts[:-1][self.lengths > 0]
        gaps[first] = self.ids[first]
        ends = np.cumsum(gaps // WIDEST + 1)  # one past each entry, its bridge before it
        size = int(ends[-1]) if len(ends) else 0
        all_gaps, all_values = np.full(size, WIDEST, "<u2"), np.zeros(size, self.values.dtype)
        all_gaps[ends - 1], all_values[ends - 1] = gaps % WIDEST, self.values
        return np.append(0, ends)[starts].astype("<u4"), all_gaps, all_values


def write_shard(path: Path, header: dict[str, Any], entries: Entries) -> None:
    """Write `path` whole or not at all. GemmaryError: it cannot be written (disk full, ...)."""
    arrays = entries.bridged()
    sizes = {"tokens": len(entries.lengths), "entries": len(arrays[1])}
    write_sealed(path, MAGIC, {**header, **sizes}, arrays)


@dataclass(frozen=True)
class Shard:
    """An open file of targets, mapped into memory."""

    path: Path
    header: dict[str, Any]
    starts: Array = field(repr=False)
    gaps: Array = field(repr=False)
    values: Array = field(repr=False)

    def read(self, tokens: Array) -> tuple[Array, Array]:
        """Ids int64 [R, K] and values float32 [R, K] of tokens [R]; K as the longest needs, the rest 0.

        Counts come whole; probabilities as they were rounded. TargetsError: a token has no targets.
        """
        starts = self.starts[tokens].astype(np.int64)
        lengths = self.starts[tokens + 1] - starts
        if len(tokens) and lengths.min() < 1:
            raise TargetsError(self.path, "it has no targets for a token that counts")
        inside = np.arange(lengths.max(initial=0)) < lengths[:, None]
        where = (starts[:, None] + np.arange(inside.shape[1]))[inside]
        ids, values = np.zeros(inside.shape, np.int64), np.zeros(inside.shape, np.float32)
        ids[inside], values[inside] = self.gaps[where], self.values[where]
        ids = ids.cumsum(-1)
        if ids.max(initial=0) >= self.header["vocabulary"]:
            raise TargetsError(self.path, "an id is outside the vocabulary")
        if self.header["reading"] == "counts":
            values[np.arange(len(tokens)), lengths - 1] += self.header["draws"] - values.sum(-1)
        return ids, values


def open_shard(path: Path) -> Shard:
    """Map a file and compare its SHA-256. TargetsError: it is damaged, or no file of targets."""
    try:
        header, raw = open_sealed(path, MAGIC)
        count, entries, kind = header["tokens"], header["entries"], KINDS[header["reading"]]
        ends = np.cumsum([0, 4 * (count + 1), 2 * entries, kind.itemsize * entries])
        if ends[-1] != len(raw) or min(count, entries, header["draws"], header["vocabulary"]) < 0:
            raise ValueError("sizes that do not fit")
        starts, gaps, values = (
            raw[a:b].view(dtype) for a, b, dtype in zip(ends, ends[1:], ("<u4", "<u2", kind), strict=False)
        )
    except ChangedError as error:
        raise TargetsError(path, str(error)) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TargetsError(path, f"it cannot be read ({error})") from error
    if starts[0] != 0 or starts[-1] != entries or (np.diff(starts.astype(np.int64)) < 0).any():
        raise TargetsError(path, "its parts do not fit together")
    return Shard(path, header, starts, gaps, values)
