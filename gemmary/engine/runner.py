"""One decoder with its pages: runs steps over sequences. Called from the engine thread only."""

from __future__ import annotations

import bisect
import threading
import time
from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Ids
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..config import Config
from ..errors import MemoryBudgetError
from ..model.pages import Pages, Sequence
from ..model.text import Decoder, Text, hidden
from ..ops.contract import Ints, LayerPages, Step, Want, pack
from .eyes import Eyes, Pixels, numbers_in
from .prefix import Snapshots
from .speculation import Experience
from .thread import Cancelled

if TYPE_CHECKING:
    from .drafter import Drafter

MAX_CHUNK = 256
_LAYER_SECONDS = 0.04  # a cancelled prefill stops between layers: one layer of a chunk stays below this
_MIN_CHUNK = 8  # below this, unpacking the weights costs more than using them
_SNAPSHOTS = 256


class Runner:
    """Steps of one decoder over the sequences of running requests, and the snapshots between requests.

    context: tokens that a text may have. chunk: tokens that a step of prefill should have, so that a layer of
    it takes a fraction of a second. drafter: a smaller model that guesses, if there is one. eyes: what
    encodes pictures, if the model can see. free, bound: what
    speculation has learned, with answers that are free and such as a constraint binds.
    """

    def __init__(self, decoder: Decoder, config: Config, context: int, capacity: tuple[int, int]) -> None:
        """`capacity` counts pages (global, local); a whole text must fit."""
        self.decoder = decoder
        self.config = config
        self.context = context
        self.chunk = _MIN_CHUNK
        self.pages = Pages(decoder.ops, config, capacity)
        self.snapshots = Snapshots(self.pages, _SNAPSHOTS)
        self.drafter: Drafter | None = None
        self.eyes: Eyes | None = None
        self.free, self.bound = Experience(), Experience()
        self._active: list[Sequence] = []  # oldest first

    @property
    def exact(self) -> bool:
        """Whether a row's bits are the same in every step. On the NumPy side they are; torch promises no such
        thing, and a guess that is checked with other bits could change the text.
        """
        return isinstance(self.decoder, Text)

    def start(self, ids: Ids[int], sequence: Sequence, key: bytes = b"") -> int:
        """Admit an empty sequence. It gets the longest remembered beginning of `ids`; the length of that."""
        found = self.snapshots.start(ids, key)
        cut = self.eyes.inside(ids, found.length) if self.eyes else 0
        if cut:  # a picture is run as a whole
            found = self._shorter(found, found.length - cut)
        sequence.length, sequence.tables = found.length, found.tables
        self._active.append(sequence)
        return sequence.length

    def part(self, ids: Ids[int], start: int, count: int = 0, marks: Ids[int] = ()) -> Ids[int]:
        """The next chunk of a prompt that is read up to `start`, no picture cut.

        About `count` tokens (0: `chunk`); fewer where a place of `marks` comes up, which ascend.
        """
        end = min(start + (count or self.chunk), len(ids))
        place = bisect.bisect_right(marks, start)
        if place < len(marks):
            end = min(end, marks[place])
        return ids[start : self.eyes.whole(ids, end) if self.eyes else end]

    def ready(self, ids: Ids[int], pixels: Pixels, look: bool = True) -> bool:
        """Whether a step of `ids` can be run; else ask again: with `look` a part of a picture is encoded."""
        return self.eyes is None or self.eyes.ready(numbers_in(ids), pixels, look)

    def unseen(self, ids: Ids[int]) -> float:
        """Pictures of `ids` that have to be encoded still, in whole ones and a part."""
        return 0.0 if self.eyes is None else self.eyes.unseen(numbers_in(ids))

    def keep(self, ids: Ids[int], sequence: Sequence, key: bytes = b"") -> None:
        """Remember the committed part of `sequence`, whose tokens are the first of `ids`."""
        if sequence.length:
            self.snapshots.keep(ids, sequence, key)

    def finish(self, sequence: Sequence) -> None:
        """Give the pages of a sequence back. Sequences that never started, or are finished, have none."""
        self._active = [other for other in self._active if other is not sequence]
        self.pages.release(sequence)

    def step(self, sequence: Sequence, ids: Ids[int], rows: Ids[int] | Ints, cancel: threading.Event) -> Any:
        """Hidden states of `rows` after appending `ids`, which are committed when the step is whole.

        MemoryBudgetError when the pages are used up: the newest request has to give way.
        """
        started = time.perf_counter()
        try:
            states = self.ahead(sequence, ids, rows, cancel)
        except BaseException:
            self.pages.truncate(sequence, sequence.length)
            raise
        self.accept(sequence, len(ids))
        if len(ids) >= self.chunk:
            self._adapt(len(ids), time.perf_counter() - started)
        return states

    def ahead(
        self,
        sequence: Sequence,
        ids: Ids[int],
        rows: Ids[int] | Ints,
        cancel: threading.Event,
        behind: int = 0,
    ) -> Any:
        """Like `step`, but nothing is committed: `accept` says how much of it is part of the text.

        The ids come behind the committed tokens and `behind` more, which earlier calls have run; these stay,
        also when this call fails.
        """
        self._reserve(sequence, behind + len(ids))
        step = self._packed([(sequence, ids)], [behind], list(rows))
        return hidden(self.decoder, step, _watched(self.pages.layers, cancel))

    def together(self, parts: Ids[tuple[Sequence, Ids[int]]], rows: Ids[int]) -> Any:
        """Hidden states of `rows`, counted over all parts, after appending to each sequence its ids.

        Every weight is read once for all of them. The caller has made room (`reserve`); what was appended is
        committed when the step is whole, else it never happened.
        """
        try:
            step = self._packed(parts, [0] * len(parts), rows)
            states = hidden(self.decoder, step, self.pages.layers)
        except BaseException:
            for sequence, _ in parts:
                self.pages.truncate(sequence, sequence.length)
            raise
        for sequence, ids in parts:
            self.pages.commit(sequence, len(ids))
        return states

    def reserve(self, sequence: Sequence, count: int) -> bool:
        """Make room for `count` tokens; snapshots give way. False where that is not enough."""
        while not self.pages.room(sequence, count):
            if not self.snapshots.evict():
                return False
        self.pages.reserve(sequence, count)
        return True

    def _packed(self, parts: Ids[tuple[Sequence, Ids[int]]], behind: Ids[int], rows: Ids[int]) -> Step:
        """The step that appends each part's ids `behind` tokens after what its sequence has committed."""
        sequences = [sequence for sequence, _ in parts]
        past = [sequence.length + more for sequence, more in zip(sequences, behind, strict=True)]
        step = pack([ids for _, ids in parts], past, rows)
        step = replace(step, pages=self.pages.table(sequences))
        return self.eyes.spliced(step) if self.eyes is not None and (step.ids < 0).any() else step

    def accept(self, sequence: Sequence, count: int) -> None:
        """Commit the first `count` tokens that were run ahead; the others never happened.

        Pages leave the window of what is committed, so what did not happen never costs one that is needed.
        """
        self._check_holds(sequence)
        self.pages.commit(sequence, count)
        self.pages.truncate(sequence, sequence.length)

    def room(self, sequence: Sequence, count: int) -> bool:
        """Whether `count` tokens fit behind the committed ones, and nobody has to give way."""
        return self.holds(sequence) and self.pages.room(sequence, count)

    def holds(self, sequence: Sequence) -> bool:
        """Whether a sequence was started, and neither finished nor made to give way."""
        return any(other is sequence for other in self._active)

    def head(self, states: Any, want: Want) -> Any:
        """Logits of hidden states, as wanted."""
        return self.decoder.ops.head(states, self.decoder.table, want)

    def _shorter(self, sequence: Sequence, length: int) -> Sequence:
        """A fork rolled back, or an empty one where the window has passed."""
        if not self.pages.can_truncate(sequence, length):
            self.pages.release(sequence)
            return Sequence()
        self.pages.truncate(sequence, length)
        return sequence

    def _adapt(self, count: int, seconds: float) -> None:
        fitting = count * _LAYER_SECONDS * self.config.layers / seconds
        self.chunk = int(np.clip(fitting, _MIN_CHUNK, MAX_CHUNK))

    def _reserve(self, sequence: Sequence, count: int) -> None:
        while self.holds(sequence) and not self.pages.room(sequence, count):
            if not self.snapshots.evict():
                self.finish(self._active[-1])
        self._check_holds(sequence)
        self.pages.reserve(sequence, count)

    def _check_holds(self, sequence: Sequence) -> None:
        if not self.holds(sequence):
            raise MemoryBudgetError(
                "the memory for running texts is used up: let other answers of this model end, then ask again"
            )


def _watched(layers: Iterable[LayerPages], cancel: threading.Event) -> Iterator[LayerPages]:
    """The layers' pages, handed out one by one; raises `Cancelled` between two layers."""
    for layer in layers:
        if cancel.is_set():
            raise Cancelled
        yield layer
