"""Documents as token ids on disk: safetensors files and a manifest with their SHA-256, memory-mapped.

A shard holds `ids` [tokens] (16 bits where the vocabulary allows it, else 32), `starts` [documents + 1],
`source` [documents], and where it has pictures `pictures` [pictures, 3]: the document, the column of the
first soft token within it, and the picture's line in pictures.jsonl.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from ...errors import GemmaryError
from ...inputs.tokenizer import Tokenizer
from ...weights.safetensors import read_safetensors
from .sources import Picture

FORMAT = "gemmary shards 1"
MANIFEST, PICTURES = "manifest.json", "pictures.jsonl"
Array = npt.NDArray[Any]


class ShardError(GemmaryError, ValueError):
    """Shards cannot be used: damaged, or made with another vocabulary."""


@dataclass(frozen=True)
class Shard:
    """One file, memory-mapped; see the head of this file."""

    ids: Array
    starts: Array
    source: Array
    pictures: Array

    def __len__(self) -> int:
        return len(self.source)

    def document(self, number: int) -> Array:
        """Its ids."""
        return self.ids[int(self.starts[number]) : int(self.starts[number + 1])]


@dataclass(frozen=True)
class Shards:
    """All shards of a folder. unpredicted: ids that nobody has to predict (a picture's tokens and marks)."""

    folder: Path
    manifest: dict[str, Any]
    shards: tuple[Shard, ...]
    unpredicted: tuple[int, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of the content of all shards."""
        sums = [entry["sha256"] for entry in self.manifest["shards"]]
        return hashlib.sha256(json.dumps(sums).encode()).hexdigest()

    def pictures(self) -> list[Picture]:
        """The pictures that documents speak of, by number; paths are below the data folder."""
        path = self.folder / PICTURES
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [Picture(**json.loads(line)) for line in lines]


def vocabulary_digest(tokenizer: Tokenizer) -> str:
    """SHA-256 of all pieces in their order, and of which are control: the same for every kind of file."""
    digest = hashlib.sha256()
    for token in range(tokenizer.vocab):
        piece = tokenizer.piece_bytes(token)
        digest.update(b"%d %d " % (tokenizer.is_control(token), len(piece)) + piece)
    return digest.hexdigest()


def open_shards(folder: Path, tokenizer: Tokenizer) -> Shards:
    """Shards that were made with this vocabulary, every byte as it was written; ShardError for any other."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise ShardError(f"{folder}: these shards are of another format; prepare the data again")
        if manifest["vocabulary"]["sha256"] != vocabulary_digest(tokenizer):
            raise ShardError(
                f"{folder}: these shards were made with another vocabulary, of "
                f"{manifest['vocabulary']['size']:,} pieces; "
                "use the tokenizer.model beside them, or prepare the data anew"
            )
        names = [(entry["name"], entry["sha256"]) for entry in manifest["shards"]]
        if manifest["pictures_sha256"]:
            names.append((PICTURES, manifest["pictures_sha256"]))
        for name, wanted in names:
            if _sha256(folder / name) != wanted:
                raise ShardError(f"{folder / name}: changed since it was written; prepare the data again")
    except (OSError, TypeError, KeyError, ValueError) as error:
        if isinstance(error, ShardError):
            raise
        raise ShardError(f"{folder}: has no sound {MANIFEST} ({error}); prepare the data again") from error
    shards = tuple(_shard(folder / entry["name"]) for entry in manifest["shards"])
    return Shards(folder, manifest, shards, tuple(manifest["unpredicted"]))


def _shard(path: Path) -> Shard:
    file = read_safetensors(path)
    arrays: dict[str, Array] = {}
    for name, info in file.tensors.items():
        kind = {"U16": "<u2", "U32": "<u4", "I64": "<i8"}[info.kind]
        arrays[name] = file.raw(name).view(kind).reshape(info.shape)
    return Shard(
        arrays["ids"], arrays["starts"], arrays["source"], arrays.get("pictures", np.zeros((0, 3), np.int64))
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class ShardWriter:
    """Documents to the files of `folder`, an empty folder; `finish` writes the manifest."""

    def __init__(self, folder: Path, tokenizer: Tokenizer, shard_tokens: int) -> None:
        self.folder, self._tokenizer, self._most = folder, tokenizer, shard_tokens
        self._kind = np.dtype("<u2" if _largest(tokenizer) < 1 << 16 else "<u4")
        self._written: list[dict[str, Any]] = []
        self._pictures: dict[str, int] = {}
        self._clear()

    def _clear(self) -> None:
        self._ids: list[Array] = []
        self._sources: list[int] = []
        self._places: list[tuple[int, int, int]] = []
        self._tokens = 0

    def add(self, ids: Sequence[int], source: int, picture: tuple[int, Picture] | None = None) -> None:
        """A document; `picture`: the column of its first soft token, and what it is."""
        if picture is not None:
            column, seen = picture
            self._places.append((len(self._ids), column, self._number(seen)))
        self._ids.append(np.asarray(ids, self._kind))
        self._sources.append(source)
        self._tokens += len(ids)
        if self._tokens >= self._most:
            self._flush()

    def _number(self, picture: Picture) -> int:
        """The line of a picture in pictures.jsonl, written when it is first met."""
        if picture.digest not in self._pictures:
            self._pictures[picture.digest] = len(self._pictures)
            with (self.folder / PICTURES).open("a", encoding="utf-8") as file:
                file.write(json.dumps({"path": picture.path, "digest": picture.digest}) + "\n")
        return self._pictures[picture.digest]

    def _flush(self) -> None:
        if not self._ids:
            return
        lengths = [len(ids) for ids in self._ids]
        arrays: dict[str, Array] = {
            "ids": np.concatenate(self._ids),
            "starts": np.concatenate([[0], np.cumsum(lengths)]).astype("<i8"),
            "source": np.asarray(self._sources, "<u4"),
        }
        if self._places:
            arrays["pictures"] = np.asarray(self._places, "<i8")
        path = self.folder / f"{len(self._written):05d}.safetensors"
        path.write_bytes(save(arrays))
        _sync(path)
        self._written.append(
            {"name": path.name, "documents": len(lengths), "tokens": sum(lengths), "sha256": _sha256(path)}
        )
        self._clear()

    def finish(self, origin: dict[str, Any]) -> int:
        """The last shard and the manifest; how many shards. `origin` says what they were made from."""
        self._flush()
        pictures = self.folder / PICTURES
        tokenizer = self._tokenizer
        marks = (tokenizer.start_of_image, tokenizer.soft, tokenizer.end_of_image)
        manifest = {
            "format": FORMAT,
            **origin,
            "vocabulary": {"size": tokenizer.vocab, "sha256": vocabulary_digest(tokenizer)},
            "unpredicted": [mark for mark in marks if mark is not None],
            "documents": sum(entry["documents"] for entry in self._written),
            "tokens": sum(entry["tokens"] for entry in self._written),
            "pictures_sha256": _sha256(pictures) if pictures.exists() else None,
            "shards": self._written,
        }
        path = self.folder / MANIFEST
        path.write_text(json.dumps(manifest, indent=1, ensure_ascii=False), encoding="utf-8")
        _sync(path)
        return len(self._written)


def _largest(tokenizer: Tokenizer) -> int:
    return max(tokenizer.vocab - 1, tokenizer.soft or 0)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
