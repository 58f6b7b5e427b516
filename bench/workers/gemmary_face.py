"""Gemmary by its public face, as a worker of a table: tasks as those of gemmary.engine.measure.

python gemmary_face.py '{"path": "model.gguf", "context": 2048}'
"""

from __future__ import annotations

import time

from serving import serve

import gemmary
from gemmary.engine.host import peak_memory
from gemmary.ops.numba.machine import path

NEVER = -1e6  # logit bias of the tokens that would end an answer early


class Worker:
    """A model and a text that no earlier task began with."""

    def __init__(self, path: str, context: int = 2048) -> None:
        started = time.perf_counter()
        self.model = gemmary.load(path, context=context)
        self.load_seconds = time.perf_counter() - started
        self.turn = 0

    def about(self) -> dict[str, object]:
        """What was loaded."""
        return {"load_seconds": self.load_seconds, "version": gemmary.__version__, "build": path()}

    def warm(self) -> dict[str, object]:
        """Compile, and settle the size of chunks."""
        self._generate(128, 2)
        return {}

    def prefill(self, tokens: int) -> dict[str, object]:
        """Read a new text of `tokens` and choose the first token of the answer."""
        return {"tokens": tokens, "seconds": self._generate(tokens, 1)}

    def decode(self, tokens: int) -> dict[str, object]:
        """`tokens` further tokens of an answer, sampling included."""
        return {"tokens": tokens, "seconds": self._generate(8, tokens + 1) - self._generate(8, 1)}

    def memory(self) -> dict[str, object]:
        """The most bytes that this process has held."""
        return {"peak_bytes": peak_memory()}

    def _generate(self, prompt: int, answer: int) -> float:
        self.turn += 1
        ids = [1000 + self.turn, *range(2000, 1999 + prompt)]
        bias = dict.fromkeys(self.model.tokenizer.stops, NEVER)
        started = time.perf_counter()
        # Random weights repeat themselves, and guessing ahead would win on that: one token a step here.
        reply = self.model.generate(ids, max_tokens=answer, temperature=0, logit_bias=bias, speculate=False)
        seconds = time.perf_counter() - started
        if len(reply.ids) != answer:
            raise RuntimeError(f"the answer has {len(reply.ids)} tokens instead of {answer}")
        return seconds


if __name__ == "__main__":
    serve(Worker)
