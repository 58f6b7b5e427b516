"""The tensors of a checkpoint: one file, or one of every process with the rows that it had.

A file of rows says in its header which: {"rows": {name: [first row, rows of the whole tensor]}}. Whoever
reads asks for rows and gets them from wherever they lie, so that any number of processes, one included, goes
on where any other number stopped. No file is read beyond the rows that are asked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from ..errors import ModelFileError

WHOLE = "tensors.safetensors"
PATTERN = "tensors*.safetensors"
ROWS = "rows"

Tensor = torch.Tensor


class Piece(NamedTuple):
    """Rows `first` to `last` (excluded) of a tensor, in `file`."""

    first: int
    last: int
    file: Any


def name_of(place: int, files: int) -> str:
    """File `place` of so many."""
    return WHOLE if files == 1 else f"tensors-{place:05d}-of-{files:05d}.safetensors"


def write(
    path: Path, tensors: Mapping[str, Tensor], rows: Mapping[str, tuple[int, int]] | None = None
) -> None:
    """Write tensors. `rows`: first row of those that are a part, and rows of the whole tensor."""
    metadata = {ROWS: json.dumps(rows)} if rows else None
    save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, path, metadata)


class TensorFiles:
    """All tensors of the checkpoint in `folder`, while the block runs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pieces: dict[str, list[Piece]] = {}
        self._lengths: dict[str, int] = {}  # rows of the whole tensors
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        for path in sorted(self._folder.glob(PATTERN)):
            self._index(self._stack.enter_context(safe_open(path, framework="pt")))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _index(self, file: Any) -> None:
        rows = json.loads((file.metadata() or {}).get(ROWS, "{}"))
        for name in list(file.keys()):
            shape = file.get_slice(name).get_shape()
            first, whole = rows.get(name, (0, shape[0] if shape else 1))
            last = first + (shape[0] if shape else 1)
            self._lengths[name] = whole
            self._pieces.setdefault(name, []).append(Piece(first, last, file))

    @property
    def names(self) -> list[str]:
        """Of all tensors."""
        return list(self._pieces)

    def shape(self, name: str) -> tuple[int, ...]:
        """Of the whole tensor."""
        shape = self._pieces[name][0].file.get_slice(name).get_shape()
        return (self._lengths[name], *shape[1:]) if shape else ()

    def whole(self, name: str) -> Tensor:
        """A tensor with all its rows."""
        shape = self.shape(name)
        return self.rows(name, 0, shape[0]) if shape else self._pieces[name][0].file.get_tensor(name)

    def rows(self, name: str, first: int, last: int) -> Tensor:
        """Rows `first` to `last` (excluded). ModelFileError: some are in no file."""
        found, at = [], first
        for piece in sorted(self._pieces[name], key=lambda piece: piece.first):
            if piece.first <= at < min(piece.last, last):
                end = min(piece.last, last)
                found.append(piece.file.get_slice(name)[at - piece.first : end - piece.first])
                at = end
        if at < last:
            raise ModelFileError(self._folder, f"rows {at} to {last} of {name} are in no file")
        if not found:  # a process may have no rows at all
            piece = self._pieces[name][0]
            return piece.file.get_slice(name)[0:0]
        return found[0] if len(found) == 1 else torch.cat(found)
