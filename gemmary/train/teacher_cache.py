"""A teacher's targets on disk: drawn once, read at random, so that the teacher need not run again.

A folder of files `targets-00000.bin`, each with the targets of as many rows of the data (target_shard.py). A
file appears whole or not at all; writing goes on behind the files that are there. Every file says whose
targets it has: teacher, data, vocabulary and how they were drawn.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .data.rows import PackedShards
from .packing import Rows
from .sampling import Distillation, Sampled
from .target_shard import COUNTS, KINDS, Array, Entries, Shard, TargetsError, open_shard, write_shard
from .teacher import OnlineTeacher

TOKENS = 1 << 16  # of a file
Data = Rows | PackedShards


def write_targets(
    folder: Path,
    teacher: OnlineTeacher,
    data: Data,
    tokens: int = TOKENS,
    warn: Callable[[str], None] | None = None,
) -> None:
    """Draw the targets of `data`; files that are there are kept; a damaged one is said and replaced.

    `tokens` a file. GemmaryError: a file cannot be written, or is another teacher's or other data's.
    ValueError: more draws than a byte can count.
    """
    how = teacher.how
    if how.reading == "counts" and how.draws > COUNTS:
        raise ValueError(f"counts are kept in a byte: at most {COUNTS} draws, not {how.draws}")
    report = warn or (lambda text: print(text, file=sys.stderr))
    folder.mkdir(parents=True, exist_ok=True)
    size = max(1, tokens // data.row)
    common = {**_origin(how, data), "vocabulary": teacher.vocabulary, "teacher": teacher.digest, "size": size}
    for number, first in enumerate(range(0, len(data), size)):
        path = _path(folder, number)
        if path.exists() and _intact(path, {**common, "number": number}, report):
            continue
        part = data.take(slice(first, first + size))
        write_shard(path, {**common, "number": number}, _drawn(teacher, part))


def _origin(how: Distillation, data: Data) -> dict[str, Any]:
    """What decides on targets beside the teacher. How much they count (`share`) does not."""
    drawn = {name: value for name, value in asdict(how).items() if name != "share"}
    return {**drawn, "data": data.digest, "rows": len(data), "row": data.row}


def _path(folder: Path, number: int) -> Path:
    return folder / f"targets-{number:05d}.bin"


def _intact(path: Path, common: dict[str, Any], report: Callable[[str], None]) -> bool:
    try:
        header = open_shard(path).header
    except TargetsError as error:
        report(f"{error} (done now)")
        return False
    _compare(path, header, common)
    return True


def _compare(path: Path, header: dict[str, Any], wanted: dict[str, Any]) -> None:
    other = [name for name, value in wanted.items() if header.get(name) != value]
    if other:
        raise TargetsError(path, f"it was made with another {' and '.join(other)}")


def _drawn(teacher: OnlineTeacher, part: Rows) -> Entries:
    """Targets of every column of `part`; columns without a weight have none."""
    counted, ids, values = [], [], []
    for row in range(len(part)):
        found = teacher.sampled(part.take(slice(row, row + 1)))
        amounts = found.amounts.numpy(force=True)
        kept = amounts.astype(np.float16) > 0
        counted.append(kept.sum(-1))
        ids.append(found.ids.numpy(force=True)[kept])
        values.append(_stored(amounts, teacher.how)[kept])
    lengths = np.zeros(part.ids.shape, np.int64)
    lengths[part.weights > 0] = np.concatenate(counted)
    return Entries(lengths.ravel(), np.concatenate(ids), np.concatenate(values))


def _stored(amounts: Array, how: Distillation) -> Array:
    """Amounts as a file keeps them; a count of 256 becomes 0, which reading makes good."""
    kind = KINDS[how.reading]
    if how.reading == "counts":
        return np.rint(amounts * how.draws).astype(np.int64).astype(kind)
    return amounts.astype(kind)


class CachedTeacher:
    """Reads what `write_targets` wrote for the same data and the same draws; `share` may be another.

    TargetsError: a file is missing or damaged (each is verified when it is first used), or made otherwise.
    """

    def __init__(self, folder: Path, how: Distillation, data: Data) -> None:
        self.how = how
        self._folder, self._wanted = folder, _origin(how, data)
        self._open: dict[int, Shard] = {}
        header = self._shard(0).header
        missing = [path.name for path in self._paths(int(header["size"])) if not path.exists()]
        if missing:
            raise TargetsError(folder, f"{len(missing)} files are missing, {missing[0]} the first")
        self._wanted |= {name: header[name] for name in ("vocabulary", "teacher", "size")}
        self.vocabulary = int(header["vocabulary"])
        self._tokens = int(header["size"]) * data.row

    def _paths(self, size: int) -> list[Path]:
        return [_path(self._folder, n) for n in range(-(-int(self._wanted["rows"]) // size))]

    @property
    def bytes_per_token(self) -> float:
        """Of the files, by tokens of the data, whether they have a target or not."""
        paths = self._paths(int(self._wanted["size"]))
        return sum(path.stat().st_size for path in paths) / (self._wanted["rows"] * self._wanted["row"])

    @property
    def identity(self) -> str:
        """The teacher's digest, marked: targets on disk are rounded."""
        return f"{self._wanted['teacher']} cached"

    def sampled(self, rows: Rows) -> Sampled:
        """Targets of the tokens of `rows` that have a weight; amounts sum to 1."""
        ids, values = self.read(rows.places())
        amounts = torch.from_numpy(values)
        return Sampled(torch.from_numpy(ids), amounts / amounts.sum(-1, keepdim=True))

    def read(self, places: Array) -> tuple[Array, Array]:
        """Ids int64 and values float32, both [R, K], of places in the data [R]: any files, any order."""
        number, inside = np.divmod(places, self._tokens)
        found = {n: self._shard(int(n)).read(inside[number == n]) for n in np.unique(number)}
        width = max((ids.shape[1] for ids, _ in found.values()), default=0)
        ids, values = np.zeros((len(places), width), np.int64), np.zeros((len(places), width), np.float32)
        for n, (of_ids, of_values) in found.items():
            here = np.flatnonzero(number == n)
            ids[here, : of_ids.shape[1]], values[here, : of_ids.shape[1]] = of_ids, of_values
        return ids, values

    def _shard(self, number: int) -> Shard:
        if number not in self._open:
            shard = open_shard(_path(self._folder, number))
            _compare(shard.path, shard.header, {**self._wanted, "number": number})
            self._open[number] = shard
        return self._open[number]
