"""Gemmary's side of a speed table, by its public face: one JSON line of stdin, one of stdout."""

from __future__ import annotations

import json
import sys
import time

import gemmary

NEVER = -1e6  # logit bias of the tokens that would end an answer early


class Worker:
    """A model and a text that no earlier task began with."""

    def __init__(self, path: str) -> None:
        self.model = gemmary.load(path, context=2048)
        self.turn = 0
        self.about = f"gemmary {gemmary.__version__}, generic CPU kernels, all cores"

    def prefill(self, tokens: int) -> float:
        """Seconds to read a new text of `tokens` and choose the first token of the answer."""
        return self._generate(tokens, 1)

    def decode(self, tokens: int) -> float:
        """Seconds for `tokens` further tokens of an answer, sampling included."""
        return self._generate(8, tokens + 1) - self._generate(8, 1)

    def _generate(self, prompt: int, answer: int) -> float:
        self.turn += 1
        ids = [1000 + self.turn, *range(2000, 1999 + prompt)]
        bias = dict.fromkeys(self.model.tokenizer.stops, NEVER)
        started = time.perf_counter()
        reply = self.model.generate(ids, max_tokens=answer, temperature=0, logit_bias=bias)
        seconds = time.perf_counter() - started
        if len(reply.ids) != answer:
            raise RuntimeError(f"the answer has {len(reply.ids)} tokens instead of {answer}")
        return seconds


if __name__ == "__main__":
    worker = Worker(sys.argv[1])
    print(json.dumps({"about": worker.about}), flush=True)
    for line in sys.stdin:
        task = json.loads(line)
        print(json.dumps({"seconds": getattr(worker, task["do"])(task["tokens"])}), flush=True)
