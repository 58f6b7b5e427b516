"""What a run says about itself: a JSON line a step in a file, and a progress line on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Any

from ..weights.atomic import replacing

RECENT = 50  # steps over which loss and speed are averaged


class Journal:
    """Appends to `path`, after dropping what a killed run wrote beyond its last checkpoint (step `first`).

    A full disk costs lines of the log, never the run: it is said once on stderr.
    """

    def __init__(self, path: Path, first: int, steps: int) -> None:
        kept = [line for line in _records(path) if json.loads(line)["step"] <= first]
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write("".join(f"{line}\n" for line in kept).encode())
        self._path, self._steps = path, steps
        self._recent: deque[tuple[float, float, int]] = deque(maxlen=RECENT)  # when, loss, tokens
        self._shown, self._last, self._full = 0.0, time.monotonic(), False

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        print(file=sys.stderr)

    def write(self, record: dict[str, Any]) -> None:
        """Record a step: "step", "loss", "tokens" and whatever else; its "seconds" are added."""
        now = time.monotonic()
        self._append(json.dumps({**record, "seconds": round(now - self._last, 3)}))
        self._last = now
        self._recent.append((now, record["loss"], record["tokens"]))
        if now - self._shown > 1:
            self._shown = now
            print(f"\r{self._line(record['step'])}\033[K", end="", file=sys.stderr, flush=True)

    def _append(self, line: str) -> None:
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            if not self._full:
                print(f"\n{self._path}: the log has gaps from here on: {error}", file=sys.stderr)
            self._full = True

    def _line(self, step: int) -> str:
        """ "step 120/3000  loss 2.345  5,120 tokens/s  37 min left"."""
        losses = [loss for _, loss, _ in self._recent]
        spent = self._recent[-1][0] - self._recent[0][0] or 1.0
        speed = sum(tokens for _, _, tokens in list(self._recent)[1:]) / spent
        left = (self._steps - step) * spent / max(1, len(self._recent) - 1) / 60
        loss = sum(losses) / len(losses)
        return f"step {step}/{self._steps}  loss {loss:.3f}  {speed:,.0f} tokens/s  {left:.0f} min left"


class NoJournal:
    """What processes that do not lead write: nothing."""

    def __enter__(self) -> NoJournal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def write(self, record: dict[str, Any]) -> None:
        """Say nothing."""


def _records(path: Path) -> list[str]:
    """Lines of the file that are whole: a kill or a full disk may have cut some."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.startswith("{") and line.endswith("}")]
