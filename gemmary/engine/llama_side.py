"""llama.cpp's side of a comparison. Run by its path, in a Python that has llama-cpp-python; needs no more.

    python llama_side.py '{"path": "model.gguf", "context": 2048}'

Tasks and answers are those of measure.py. It goes through llama.cpp's C functions, so that no Python of the
binding is timed; choosing the next token is not timed either.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

Answer = dict[str, Any]


class Subject:
    """A model; one context for a single text, another for a batch, never both at once."""

    def __init__(self, path: str, context: int = 2048, threads: int | None = None) -> None:
        from llama_cpp import llama_cpp as api

        self.api = api
        self.size = context
        self.threads = threads or len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else [0])
        api.llama_backend_init()
        started = time.perf_counter()
        params = api.llama_model_default_params()
        params.n_gpu_layers = 0
        self.model = api.llama_model_load_from_file(path.encode(), params)
        if not self.model:
            raise SystemExit("llama.cpp refuses the file")
        self.vocab = api.llama_vocab_n_tokens(api.llama_model_get_vocab(self.model))
        self.context: Any = None
        self.streams, self.length = 0, 0
        self._open(1)
        self.load_seconds = time.perf_counter() - started

    def about(self) -> Answer:
        """What was loaded, and with which build."""
        import llama_cpp

        return {
            "load_seconds": self.load_seconds,
            "version": llama_cpp.__version__,
            "threads": self.threads,
            "build": self.api.llama_print_system_info().decode().strip(" |"),
        }

    def warm(self, limit: float | None = None) -> Answer:
        """Touch everything once."""
        self.prefill(64)
        self.decode(2)
        return {}

    def prefill(self, tokens: int, limit: float | None = None) -> Answer:
        """Read a new text of `tokens`."""
        self._open(1)
        self.api.llama_memory_clear(self.api.llama_get_memory(self.context), False)
        self.length = 0
        return self.extend(tokens)

    def extend(self, tokens: int) -> Answer:
        """Read on until the text has `tokens`."""
        before, started = self.length, time.perf_counter()
        while self.length < tokens:
            part = min(tokens - self.length, 512)
            self._step([(0, self.length + i) for i in range(part)], self.length + part == tokens)
            self.length += part
        return {"tokens": tokens - before, "seconds": time.perf_counter() - started}

    def decode(self, tokens: int, limit: float | None = None) -> Answer:
        """Continue the text by `tokens`, one after the other, each with its logits."""
        started = time.perf_counter()
        for _ in range(tokens):
            self._step([(0, self.length)], True)
            self.length += 1
        return {"tokens": tokens, "seconds": time.perf_counter() - started}

    def batch(self, streams: int, tokens: int, past: int, limit: float | None = None) -> Answer:
        """Continue `streams` texts of `past` tokens by `tokens`, one batch a token."""
        self._open(streams)
        self.api.llama_memory_clear(self.api.llama_get_memory(self.context), False)
        for text in range(streams):
            self._step([(text, place) for place in range(past)], True)
        self._step([(text, past) for text in range(streams)], True)  # the first of this shape is slower
        started = time.perf_counter()
        for done in range(tokens):
            self._step([(text, past + 1 + done) for text in range(streams)], True)
        return {"tokens": streams * tokens, "seconds": time.perf_counter() - started}

    def memory(self) -> Answer:
        """The peak of this process, where the system says it."""
        try:
            with open("/proc/self/status", encoding="utf-8") as file:
                peak = next(line for line in file if line.startswith("VmHWM:"))
            return {"peak_bytes": int(peak.split()[1]) * 1024}
        except OSError:
            return {"peak_bytes": None}

    def _open(self, streams: int) -> None:
        """A context for so many texts, unless it is open already."""
        if streams == self.streams:
            return
        if self.context:
            self.api.llama_free(self.context)
        params = self.api.llama_context_default_params()
        params.n_ctx = self.size if streams == 1 else 512 * streams
        params.n_batch = params.n_ubatch = 512
        params.n_seq_max = streams
        params.n_threads = params.n_threads_batch = self.threads
        params.flash_attn_type = self.api.LLAMA_FLASH_ATTN_TYPE_ENABLED
        params.swa_full = False  # keys outside the windows are dropped, as ours are
        params.kv_unified = True  # as fast as a cache for each text, or faster
        self.context = self.api.llama_init_from_model(self.model, params)
        if not self.context:
            raise SystemExit("llama.cpp opens no context of that size")
        self.streams, self.length = streams, 0

    def _step(self, places: list[tuple[int, int]], logits: bool) -> None:
        """One call for (text, position) pairs; logits for the last position of each text."""
        api = self.api
        batch = api.llama_batch_init(len(places), 0, 1)
        batch.n_tokens = len(places)
        for i, (text, place) in enumerate(places):
            batch.token[i] = (1000 + 7919 * text + 31 * place) % self.vocab
            batch.pos[i], batch.n_seq_id[i] = place, 1
            batch.seq_id[i][0] = text
            batch.logits[i] = logits and (i + 1 == len(places) or places[i + 1][0] != text)
        failed = api.llama_decode(self.context, batch)
        api.llama_synchronize(self.context)
        api.llama_batch_free(batch)
        if failed:
            raise SystemExit("llama.cpp could not run a step")


def main() -> None:
    """Load what argv[1] says, then do the tasks of stdin."""
    del sys.path[0]  # the folder of this file, whose names could be taken for those of other packages
    subject = Subject(**json.loads(sys.argv[1]))
    print(json.dumps(subject.about()), flush=True)
    for line in sys.stdin:
        task = json.loads(line)
        print(json.dumps(getattr(subject, task.pop("do"))(**task)), flush=True)


if __name__ == "__main__":
    main()
