"""Texts of evaluations are not trained on: no 13 words in a row that one of them has (Brown et al. 2020)."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, cast

import numpy as np

from ...errors import GemmaryError
from .words import Hashes, word_hashes, words

WINDOW = 13
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
MAX_JSON = 256 << 20  # bytes of one JSON document or line


class Evaluation:
    """The runs of 13 words of texts that must not be trained on, as sorted hashes: 8 bytes each.

    texts: how many were given. unchecked: how many of them are shorter than 13 words and so match nothing.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = self.unchecked = 0
        found: list[Hashes] = [np.zeros(0, np.uint64)]
        for text in texts:
            grams = runs(word_hashes(words(text)))
            self.texts += 1
            self.unchecked += not len(grams)
            found.append(np.unique(grams))
        self._known: Hashes = np.unique(np.concatenate(found))

    def __len__(self) -> int:
        return len(self._known)

    def first_shared(self, hashes: Hashes) -> int | None:
        """The number of the first word of the first shared run in a document's word hashes, or None."""
        grams = runs(hashes)
        if not len(grams) or not len(self._known):
            return None
        places = np.searchsorted(self._known, grams)
        hits = np.flatnonzero(self._known[np.minimum(places, len(self._known) - 1)] == grams)
        return int(hits[0]) if len(hits) else None


def runs(hashes: Hashes) -> Hashes:
    """One number for every 13 words in a row: uint64 [words - 12], or [0]."""
    count = max(len(hashes) - WINDOW + 1, 0)
    total: Hashes = np.zeros(count, np.uint64)
    for k in range(WINDOW if count else 0):
        total = total * _FACTOR + hashes[k : k + count]  # modulo 2^64
    return total


def evaluation_texts(paths: Iterable[Path]) -> Iterator[str]:
    """Every string in JSON and JSONL files, at any depth; plain files as a whole; .gz of each.

    An evaluation that cannot be read is an error: to train on it by mistake would be worse than to stop.
    """
    for path in paths:
        try:
            with _opened(path) as file:
                yield from _texts(path, file)
        except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
            raise GemmaryError(
                f"{path}: this evaluation cannot be read ({error}): repair it or take it out of the plan"
            ) from error


def _opened(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _texts(path: Path, file: IO[bytes]) -> Iterator[str]:
    kind = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if kind in (".jsonl", ".ndjson"):
        while line := file.readline(MAX_JSON):
            if line.strip():
                yield from _strings(json.loads(line))
        return
    content = file.read(MAX_JSON + 1)
    if len(content) > MAX_JSON:
        raise ValueError(f"longer than {MAX_JSON >> 20} MiB")
    text = content.decode("utf-8-sig")
    yield from _strings(json.loads(text) if kind == ".json" else text)


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner)
