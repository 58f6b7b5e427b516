"""Gemmary's side of a speed table: answers one JSON line of stdin with one of stdout."""

from __future__ import annotations

import json
import sys
import threading
import time

from gemmary.engine.runner import Runner
from gemmary.model.pages import Sequence
from gemmary.ops.contract import TopK
from gemmary.ops.numba.machine import prepare
from gemmary.weights.assemble import packed_text
from gemmary.weights.checkpoint import open_checkpoint


class Worker:
    """A decoder and one sequence."""

    def __init__(self, path: str) -> None:
        threads = prepare()
        checkpoint = open_checkpoint(path)
        self.runner = Runner(packed_text(checkpoint), checkpoint.config, 2048)
        self.sequence = Sequence()
        self.never = threading.Event()
        self.about = f"gemmary, generic kernels, {threads} threads"

    def prefill(self, tokens: int) -> float:
        """Seconds to read `tokens` into an empty context, up to the choice of a token."""
        self.runner.pages.release(self.sequence)
        ids = list(range(1000, 1000 + tokens))
        started = time.perf_counter()
        while self.sequence.length < tokens:
            states, _ = self.runner.chunk(self.sequence, ids[self.sequence.length :], self.never)
        self.runner.head(states, TopK(64))
        return time.perf_counter() - started

    def decode(self, tokens: int) -> float:
        """Seconds for `tokens` single steps, each with its head."""
        started = time.perf_counter()
        for token in range(tokens):
            states = self.runner.step(self.sequence, [2000 + token], [0], self.never)
            self.runner.head(states, TopK(64))
        return time.perf_counter() - started


if __name__ == "__main__":
    worker = Worker(sys.argv[1])
    print(json.dumps({"about": worker.about}), flush=True)
    for line in sys.stdin:
        task = json.loads(line)
        print(json.dumps({"seconds": getattr(worker, task["do"])(task["tokens"])}), flush=True)
