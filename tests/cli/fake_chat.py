"""`gemmary` with a model that needs no file: it counts slowly, or says what it was asked (ECHO=1)."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from gemmary import cli
from gemmary.cli import opening
from gemmary.config import NANO
from gemmary.engine.reply import Piece, Timings, Usage
from gemmary.inputs.prompt import Prompt


class SlowModel:
    """Counts to a thousand, fifty words a second."""

    config = replace(NANO, vision=None)
    context = 4096

    def prompt(self, messages: list[dict[str, Any]], pan_and_scan: Any = False) -> Prompt:
        return Prompt((1, 2, 3))

    def chat(self, messages: list[dict[str, Any]], **_: Any) -> Iterator[Piece]:
        words = [json.dumps(messages)] if os.environ.get("ECHO") else [f"w{n} " for n in range(1000)]
        for word in words:
            yield Piece(word)
            time.sleep(0.02)
        yield Piece("", (), "stop", None, Usage(3, len(words)), Timings(0.1, 1.0, 3, len(words)))


FIND = opening.find
opening.find = lambda name: Path("fake.gguf") if name is None else FIND(name)
opening.load = lambda path, context, threads, draft, cache, mmproj: SlowModel()

if __name__ == "__main__":
    sys.argv[0] = "gemmary"
    cli.main()
