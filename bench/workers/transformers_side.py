"""transformers in bfloat16, as a worker of a table: random weights at true shapes, no sampling.

python transformers_side.py '{"config": {"vocab_size": ..., ...}, "threads": 2}'
"""

from __future__ import annotations

import time
from typing import Any

import torch
import transformers
from serving import serve


class Worker:
    """A model, and the text that is being continued."""

    def __init__(self, config: dict[str, Any], threads: int) -> None:
        torch.set_num_threads(threads)
        torch.set_default_dtype(torch.bfloat16)
        self.threads = threads
        settings = transformers.Gemma3TextConfig(**config, attn_implementation="sdpa")
        self.model = transformers.Gemma3ForCausalLM(settings).eval()
        self.cache: Any = None

    def about(self) -> dict[str, object]:
        """Versions."""
        build = torch.backends.cpu.get_cpu_capability()
        return {"version": f"{transformers.__version__}, torch {torch.__version__}", "build": build}

    def warm(self) -> dict[str, object]:
        """Touch everything once."""
        self.prefill(64)
        self.decode(2)
        return {}

    def prefill(self, tokens: int) -> dict[str, object]:
        """Read a new text."""
        self.cache = None
        started = time.perf_counter()
        self._step(list(range(1000, 1000 + tokens)))
        return {"tokens": tokens, "seconds": time.perf_counter() - started}

    def decode(self, tokens: int) -> dict[str, object]:
        """Continue it token by token."""
        started = time.perf_counter()
        for token in range(tokens):
            self._step([2000 + token])
        return {"tokens": tokens, "seconds": time.perf_counter() - started}

    @torch.inference_mode()
    def _step(self, ids: list[int]) -> None:
        answer = self.model(torch.tensor([ids]), past_key_values=self.cache, use_cache=True, logits_to_keep=1)
        self.cache = answer.past_key_values


if __name__ == "__main__":
    serve(Worker)
