"""llama.cpp's side of a speed table; runs where llama-cpp-python is installed, and needs nothing of ours."""

from __future__ import annotations

import json
import os
import sys
import time

import llama_cpp


class Worker:
    """A model and one context."""

    def __init__(self, path: str) -> None:
        threads = len(os.sched_getaffinity(0))
        self.model = llama_cpp.Llama(
            path,
            n_ctx=2048,
            n_threads=threads,
            n_threads_batch=threads,
            n_batch=512,
            flash_attn=True,
            verbose=False,
        )
        info = llama_cpp.llama_print_system_info().decode().strip()
        self.about = f"llama-cpp-python {llama_cpp.__version__}, {threads} threads, {info}"

    def prefill(self, tokens: int) -> float:
        """Seconds to read `tokens` into an empty context."""
        self.model.reset()
        started = time.perf_counter()
        self.model.eval(list(range(1000, 1000 + tokens)))
        return time.perf_counter() - started

    def decode(self, tokens: int) -> float:
        """Seconds for `tokens` single steps, each with its head."""
        started = time.perf_counter()
        for token in range(tokens):
            self.model.eval([2000 + token])
        return time.perf_counter() - started


if __name__ == "__main__":
    worker = Worker(sys.argv[1])
    print(json.dumps({"about": worker.about}), flush=True)
    for line in sys.stdin:
        task = json.loads(line)
        print(json.dumps({"seconds": getattr(worker, task["do"])(task["tokens"])}), flush=True)
