"""One decoder with its pages: runs steps over sequences. Called from the engine thread only."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from ..config import Config
from ..errors import MemoryBudgetError
from ..model.pages import Pages, Sequence, pages_needed
from ..model.text import Decoder, hidden
from ..ops.contract import GLOBAL, LOCAL, Full, LayerPages, Targets, Want, pack
from .prefix import Snapshots

MAX_CHUNK = 256
_FIRST_CHUNK = 32
_LAYER_SECONDS = 0.04  # a cancelled prefill stops between layers: one layer of a chunk stays below this
_SNAPSHOTS = 6


class Cancelled(Exception):
    """The request was cancelled; its uncommitted step is discarded."""


class Runner:
    """Steps of one decoder: chunked prefill, decode, and the snapshots between requests."""

    def __init__(self, decoder: Decoder, config: Config, context: int) -> None:
        self.decoder = decoder
        self.config = config
        self.context = context
        self.pages = Pages(decoder.ops, config, capacity(config, context))
        self.snapshots = Snapshots(self.pages, _SNAPSHOTS)
        self._chunk = _FIRST_CHUNK

    def step(self, sequence: Sequence, ids: list[int], rows: list[int], cancel: threading.Event) -> Any:
        """Hidden states of `rows` after appending `ids`, which are committed when the step is whole."""
        self._reserve(sequence, len(ids))
        step = replace(pack([ids], [sequence.length], rows), pages=self.pages.table([sequence]))
        try:
            states = hidden(self.decoder, step, _watched(self.pages.layers, cancel))
        except BaseException:
            self.pages.truncate(sequence, sequence.length)
            raise
        self.pages.commit(sequence, len(ids))
        return states

    def chunk(self, sequence: Sequence, ids: list[int], cancel: threading.Event) -> Any:
        """Append the next chunk of `ids`, as many as take a fraction of a second; hidden state of its last."""
        part = ids[: self._chunk]
        started = time.perf_counter()
        states = self.step(sequence, part, [len(part) - 1], cancel)
        if len(part) == self._chunk:
            per_layer = (time.perf_counter() - started) / self.config.layers
            self._chunk = int(np.clip(self._chunk * _LAYER_SECONDS / per_layer, 1, MAX_CHUNK))
        return states, len(part)

    def head(self, states: Any, want: Want) -> Any:
        """Logits of hidden states, as wanted."""
        return self.decoder.ops.head(states, self.decoder.table, want)

    def rows(self, ids: list[int], rows: list[int], want: Full | Targets) -> Any:
        """Logits or scores of chosen rows of a text, in the order of `rows`; the text is not remembered."""
        sequence, never = Sequence(), threading.Event()
        order = np.argsort(rows, kind="stable")
        states = []
        try:
            for start in range(0, max(rows) + 1, MAX_CHUNK):
                part = ids[start : start + MAX_CHUNK]
                inside = [rows[i] - start for i in order if start <= rows[i] < start + len(part)]
                states.append(np.asarray(self.step(sequence, part, inside, never)))
        finally:
            self.pages.release(sequence)
        kept = np.empty_like(np.concatenate(states))
        kept[order] = np.concatenate(states)
        return self.head(kept, want)

    def _reserve(self, sequence: Sequence, count: int) -> None:
        while not self.pages.room(sequence, count):
            if not self.snapshots.evict():
                raise MemoryBudgetError(
                    "the page pool is full: close other streams of this model, or load it with a larger context"
                )
        self.pages.reserve(sequence, count)


def capacity(config: Config, context: int) -> tuple[int, int]:
    """Pages (global, local) of a runner: two full texts, and windows for each snapshot."""
    tokens = min(context, config.context)
    return (
        2 * pages_needed(config, GLOBAL, tokens, MAX_CHUNK),
        (2 + _SNAPSHOTS) * pages_needed(config, LOCAL, tokens, MAX_CHUNK),
    )


def _watched(layers: Iterable[LayerPages], cancel: threading.Event) -> Iterator[LayerPages]:
    """The layers' pages, handed out one by one; raises `Cancelled` between two layers."""
    for layer in layers:
        if cancel.is_set():
            raise Cancelled
        yield layer
