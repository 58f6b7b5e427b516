"""What a run says about itself: a line a step in log.jsonl, and all that is made from it.

Beside the log: run.json (what the run is), history.jsonl (what happened to it), event files for TensorBoard,
what the user sees meanwhile, and report.html at the end.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from ..errors import GemmaryError
from ..weights.atomic import replacing
from . import history, log, runpage
from .about import About
from .eventfile import EventFile
from .live import view
from .meter import Meter

LOG, TENSORBOARD = "log.jsonl", "tensorboard"


class Journal:
    """Of the run in `folder` up to step `steps`. What a killed run wrote beyond its last checkpoint (step
    `first`) is dropped.

    A full disk costs lines of the log, never the run: it is said once on stderr.
    """

    def __init__(self, folder: Path, first: int, steps: int, about: About) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        kept = _cut(folder / LOG, first)
        about.write(folder)
        self._folder, self._step, self._begun = folder, first, first < steps
        self._meter, self._view = Meter(steps, about, kept.records), view()
        self._events: EventFile | None = None
        self._last, self._full = time.monotonic(), False
        if self._begun:
            self._try(self._begin)

    def _begin(self) -> None:
        self._note(f"went on from step {self._step:,}" if self._step else "began")
        self._events = EventFile(self._folder / TENSORBOARD, self._step)

    def __enter__(self) -> Journal:
        self._view.open(self._meter)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._view.close()
        if self._begun or value is not None:
            self._try(lambda: self._note(_end(value, self._step, self._meter.steps)))
        self._report()

    def write(self, record: log.Record) -> None:
        """Record a step: "step", "loss", "tokens" and whatever else; its "seconds" are added."""
        now, self._step = time.monotonic(), record["step"]
        line = json.dumps({**record, "seconds": round(now - self._last, 3)})
        self._last = now
        self._meter.add(record, now)
        self._try(lambda: self._append(line))
        self._try(lambda: self._scalars(record))
        self._view.show(self._meter)

    def back(self, step: int, why: str) -> None:
        """The run goes on from an earlier `step`: what was known of later ones is void."""
        self._step = step
        self._try(lambda: self._note(f"went back to step {step:,}: {why}"))
        self._try(lambda: _cut(self._folder / LOG, step))  # else the lines to come make the old ones void
        if (events := self._events) is not None:
            self._try(lambda: events.back(step))

    def _append(self, line: str) -> None:
        with (self._folder / LOG).open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def _scalars(self, record: log.Record) -> None:
        if self._events is None:
            return
        values = {**record, "tokens a second": self._meter.speed}
        numbers = {name: value for name, value in values.items() if isinstance(value, int | float)}
        self._events.add(record["step"], {n: v for n, v in numbers.items() if n not in ("step", "tokens")})

    def _note(self, what: str) -> None:
        history.add(self._folder, self._step, what)

    def _try(self, write: Callable[[], object]) -> None:
        try:
            write()
        except (OSError, GemmaryError) as error:
            if not self._full:
                print(f"\n{self._folder}: the log has gaps from here on: {error}", file=sys.stderr)
            self._full = True

    def _report(self) -> None:
        """Everything that it is made from is on disk, so no fault of a page may cost a run its end."""
        try:
            path = runpage.write(self._folder)
        except Exception as error:
            again = f"python -m gemmary.train.runpage {self._folder}"
            print(f"The report could not be written ({error}); later: {again}", file=sys.stderr)
        else:
            print(f"Report: {path}", file=sys.stderr)


class NoJournal:
    """What processes that do not lead write: nothing."""

    def __enter__(self) -> NoJournal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def write(self, record: log.Record) -> None:
        """Say nothing."""

    def back(self, step: int, why: str) -> None:
        """Say nothing."""


def _cut(path: Path, step: int) -> log.Log:
    """Drop what the log says of steps after `step`; what is left."""
    kept = log.read(path).until(step)
    with replacing(path) as file:
        file.write("".join(f"{line}\n" for line in kept.lines).encode())
    return kept


def _end(error: BaseException | None, step: int, steps: int) -> str:
    """How a run ended, in words."""
    if isinstance(error, KeyboardInterrupt):
        return "was stopped at once, by Ctrl-C"
    if error is not None:
        return f"failed: {error or type(error).__name__}"
    return "ended" if step >= steps else "was interrupted"
