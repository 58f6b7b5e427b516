"""ONNX Runtime GenAI, as a worker of a table: a folder that its own model builder wrote.

python onnx_side.py '{"folder": "1b-onnx"}'
"""

from __future__ import annotations

import time
from importlib.metadata import version
from typing import Any

import onnxruntime_genai as genai
from serving import serve


class Worker:
    """A model, and the text that is being continued."""

    def __init__(self, folder: str) -> None:
        self.model = genai.Model(folder)
        self.generator: Any = None

    def about(self) -> dict[str, object]:
        """Versions."""
        return {"version": f"{genai.__version__}, onnxruntime {version('onnxruntime')}"}

    def warm(self) -> dict[str, object]:
        """Touch everything once."""
        self.prefill(64)
        self.decode(2)
        return {}

    def prefill(self, tokens: int) -> dict[str, object]:
        """Read a new text."""
        settings = genai.GeneratorParams(self.model)
        settings.set_search_options(max_length=2048, min_length=2048, do_sample=False)
        self.generator = genai.Generator(self.model, settings)
        started = time.perf_counter()
        self.generator.append_tokens(list(range(1000, 1000 + tokens)))
        return {"tokens": tokens, "seconds": time.perf_counter() - started}

    def decode(self, tokens: int) -> dict[str, object]:
        """Continue it token by token, greedily."""
        self.generator.generate_next_token()  # the first one needs the logits of the prompt only
        started = time.perf_counter()
        for _ in range(tokens):
            self.generator.generate_next_token()
        return {"tokens": tokens, "seconds": time.perf_counter() - started}


if __name__ == "__main__":
    serve(Worker)
