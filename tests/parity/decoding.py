"""Runs a decoder over texts in chosen cuts, and gives back every row's logits."""

from __future__ import annotations

from collections.abc import Sequence as Cut
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gemmary.config import Config
from gemmary.model.pages import Pages, Sequence
from gemmary.model.text import hidden
from gemmary.ops.contract import Full, pack
from gemmary.ops.reference import Reference
from gemmary.weights.assemble import module_text, packed_text
from gemmary.weights.checkpoint import open_checkpoint


class Decoding:
    """A decoder with pages for a few sequences."""

    def __init__(self, decoder: Any, config: Config, pages: int = 200) -> None:
        self.decoder = decoder
        self.pages = Pages(decoder.ops, config, (pages, pages))

    def step(self, sequences: list[Sequence], parts: list[list[int]]) -> list[np.ndarray]:
        """Append parts to sequences in one step; logits of every new token, by sequence."""
        past = [s.length for s in sequences]
        for sequence, part in zip(sequences, parts, strict=True):
            self.pages.reserve(sequence, len(part))
        packed = pack(parts, past, range(sum(map(len, parts))))
        step = replace(packed, pages=self.pages.table(sequences))
        with torch.no_grad():
            states = hidden(self.decoder, step, self.pages.layers)
            logits = np.asarray(self.decoder.ops.head(states, self.decoder.table, Full()))
        for sequence, part in zip(sequences, parts, strict=True):
            self.pages.commit(sequence, len(part))
        return [np.array(x) for x in np.split(logits, np.cumsum([len(p) for p in parts])[:-1])]

    def run(self, ids: list[int], cuts: Cut[int], sequence: Sequence | None = None) -> np.ndarray:
        """Logits [T, V] of one text, cut into steps of the given sizes (repeated as needed)."""
        sequence = Sequence() if sequence is None else sequence
        rows, at, turn = [], 0, 0
        while at < len(ids):
            part = ids[at : at + cuts[turn % len(cuts)]]
            rows += self.step([sequence], [part])
            at, turn = at + len(part), turn + 1
        return np.concatenate(rows)

    def together(self, texts: list[list[int]], chunk: int) -> list[np.ndarray]:
        """Logits of several texts that share every step."""
        sequences = [Sequence() for _ in texts]
        rows: list[list[np.ndarray]] = [[] for _ in texts]
        for at in range(0, max(map(len, texts)), chunk):
            live = [i for i, text in enumerate(texts) if at < len(text)]
            parts = [texts[i][at : at + chunk] for i in live]
            for i, logits in zip(live, self.step([sequences[i] for i in live], parts), strict=True):
                rows[i].append(logits)
        return [np.concatenate(r) for r in rows]


def cpu(source: Path, exact_scale: bool = False, pages: str = "F32") -> Decoding:
    """The CPU engine on a file or folder; `pages`: format of keys and values."""
    checkpoint = open_checkpoint(source, exact_scale)
    return Decoding(packed_text(checkpoint, pages=pages), checkpoint.config)


def reference(source: Path, exact_scale: bool = False) -> Decoding:
    """The torch reference on a file or folder."""
    checkpoint = open_checkpoint(source, exact_scale)
    return Decoding(module_text(checkpoint, Reference()), checkpoint.config)


ENGINES = {"cpu": cpu, "reference": reference}
