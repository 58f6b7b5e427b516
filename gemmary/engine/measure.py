"""A model at work, timed: what `gemmary bench` and bench/*.py ask for. Runs in a process of its own.

    echo '{"do": "prefill", "tokens": 512}' | python -m gemmary.engine.measure '{"size": "1b"}'

Peak memory and load time are honest only in a fresh process, which also survives a model that is too large.
Tasks come as JSON lines, each is answered by one; the first line says what was loaded.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Sequence as Ids
from dataclasses import replace
from typing import Any

from ..config import SIZES, Config
from ..errors import GemmaryError
from ..model.pages import Sequence, pages_needed
from ..model.text import hidden
from ..ops.contract import GLOBAL, LOCAL, TopK, pack
from ..ops.numba.machine import path, prepare
from ..weights.assemble import packed_text
from ..weights.checkpoint import Checkpoint, open_checkpoint
from ..weights.synthetic import Layout, RandomTensors, random_checkpoint
from .host import peak_memory
from .memory import CACHES, Cache
from .runner import MAX_CHUNK, Runner

CONTEXT = 2048  # tokens that a text may have here, unless the job says otherwise
STREAMS = 8
_WANT = TopK(64, lse=False)  # what sampling with Gemma's own settings asks for
_NEVER = threading.Event()


class Subject:
    """A loaded model, one text that grows, and timed work on it. Speeds include choosing each next token."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        context: int = CONTEXT,
        threads: int | None = None,
        cache: Cache = "f16",
    ) -> None:
        prepare(threads)
        tensors, config = checkpoint.tensors, checkpoint.config
        started = time.perf_counter()
        decoder = packed_text(checkpoint, pages=CACHES[cache])
        self._runner = Runner(decoder, config, context, _capacity(config, context))
        self.load_seconds = time.perf_counter() - started
        if isinstance(tensors, RandomTensors):
            self.load_seconds -= tensors.seconds
        self._text = Sequence()
        self._next = 0
        self._first = 0
        self.weights = tensors.nbytes  # a token reads them once: the table as the head

    def about(self) -> dict[str, Any]:
        """What was loaded, and how long that took."""
        return {"load_seconds": self.load_seconds, "weight_bytes": self.weights, "build": path()}

    def warm(self, limit: float = float("inf")) -> dict[str, Any]:
        """Run every kind of step once: afterwards nothing has to be compiled."""
        self.prefill(MAX_CHUNK // 2, limit)
        self.decode(2)
        self.batch(STREAMS, 1, 1)
        return {}

    def prefill(self, tokens: int, limit: float = float("inf")) -> dict[str, Any]:
        """Read a new text of `tokens` and choose what follows. After `limit` seconds it stops, and says how
        many tokens it read."""
        runner = self._runner
        runner.finish(self._text)
        self._text = Sequence()
        self._first += 1  # no text begins as another did
        started = time.perf_counter()
        runner.start([self._word(0)], self._text)
        return self._extend(tokens, started, limit)

    def extend(self, tokens: int) -> dict[str, Any]:
        """Read on until the text has `tokens`."""
        return self._extend(tokens, time.perf_counter(), float("inf"))

    def decode(self, tokens: int, limit: float = float("inf")) -> dict[str, Any]:
        """Continue the text by `tokens`, one after the other."""
        started, done = time.perf_counter(), 0
        while done < tokens and (not done or time.perf_counter() - started < limit):
            states = self._runner.step(self._text, [self._next], [0], _NEVER)
            self._next = self._choose(states)[0]
            done += 1
        return {"tokens": done, "seconds": time.perf_counter() - started}

    def batch(self, streams: int, tokens: int, past: int, limit: float = float("inf")) -> dict[str, Any]:
        """Continue `streams` texts of `past` tokens each by `tokens`, all in one step a token.

        Only the continuation is timed; `tokens` of the answer counts those of all streams.
        """
        texts = [Sequence() for _ in range(streams)]
        try:
            chosen = self._choose(self._begin(texts, past))
            started, done = time.perf_counter(), 0
            while done < tokens and (not done or time.perf_counter() - started < limit):
                chosen = self._choose(self._grow(texts, [[token] for token in chosen]))
                done += 1
            return {"tokens": streams * done, "seconds": time.perf_counter() - started}
        finally:
            for text in texts:
                self._runner.pages.release(text)

    def memory(self) -> dict[str, Any]:
        """Bytes: the peak of this process so far, and the pages of the text as it is."""
        return {"peak_bytes": peak_memory(), "page_bytes": self._runner.pages.bytes_used}

    def _extend(self, tokens: int, started: float, limit: float) -> dict[str, Any]:
        before = self._text.length
        states = None
        while self._text.length < tokens and (states is None or time.perf_counter() - started < limit):
            length = self._text.length
            part = [self._word(i) for i in range(length, min(tokens, length + self._runner.chunk))]
            states = self._runner.step(self._text, part, [len(part) - 1], _NEVER)
        if states is not None:
            self._next = self._choose(states)[0]
        return {"tokens": self._text.length - before, "seconds": time.perf_counter() - started}

    def _begin(self, texts: list[Sequence], length: int) -> Any:
        """States after `length` tokens of each text, which differ from the first token on."""
        width = MAX_CHUNK // len(texts)
        for start in range(0, length, width):
            places = range(start, min(start + width, length))
            ids = [[self._word(1000 * number + place) for place in places] for number in range(len(texts))]
            states = self._grow(texts, ids)
        return states

    def _grow(self, texts: list[Sequence], ids: list[list[int]]) -> Any:
        """States of the last token of each text after one step that appends `ids` to them."""
        pages = self._runner.pages
        step = pack(ids, [text.length for text in texts])
        for text, part in zip(texts, ids, strict=True):
            pages.reserve(text, len(part))
        states = hidden(self._runner.decoder, replace(step, pages=pages.table(texts)), pages.layers)
        for text, part in zip(texts, ids, strict=True):
            pages.commit(text, len(part))
        return states

    def _choose(self, states: Any) -> Ids[int]:
        """The likeliest next token of each row."""
        return [int(token) for token in self._runner.head(states, _WANT).ids[:, 0]]

    def _word(self, position: int) -> int:
        """An ordinary token for a place in the text."""
        return (1000 + 7919 * self._first + 31 * position) % self._runner.config.vocab


def _capacity(config: Config, context: int) -> tuple[int, int]:
    """Pages for one text of `context` tokens and for `STREAMS` short ones."""
    short = STREAMS * (pages_needed(config, GLOBAL, MAX_CHUNK, MAX_CHUNK))
    return (
        pages_needed(config, GLOBAL, context, MAX_CHUNK) + short,
        pages_needed(config, LOCAL, context, MAX_CHUNK) + short,
    )


def _subject(job: dict[str, Any]) -> Subject:
    if "path" in job:
        checkpoint = open_checkpoint(job["path"])
    else:
        checkpoint = random_checkpoint(SIZES[job["size"]], Layout(job["body"], job["table"]))
    return Subject(checkpoint, job.get("context") or CONTEXT, job.get("threads"), job.get("cache") or "f16")


def main() -> None:
    """Load what argv[1] says, then do the tasks of stdin."""
    try:
        subject = _subject(json.loads(sys.argv[1]))
        print(json.dumps(subject.about()), flush=True)
        for line in sys.stdin:
            task = json.loads(line)
            print(json.dumps(getattr(subject, task.pop("do"))(**task)), flush=True)
    except GemmaryError as fault:
        print(json.dumps({"error": str(fault)}), flush=True)


if __name__ == "__main__":
    main()
