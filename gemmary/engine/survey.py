"""How fast Gemma 3 is on this machine: one row a model, smallest first, within a budget of time.

Each model runs in a process of its own (worker.py), and beside it, where wanted, the same file in llama.cpp:
in turns, so that whatever slows the machine down slows both.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..config import SIZES, Config
from ..errors import GemmaryError
from ..weights.checkpoint import Checkpoint, open_checkpoint
from ..weights.synthetic import Layout, RandomTensors
from . import peer
from .host import free_memory
from .measure import STREAMS
from .memory import estimate_memory, number_bytes
from .worker import Worker, measuring

PREFILL, DECODE, BATCH, PAST = (
    512,
    32,
    16,
    64,
)  # tokens: read, written, written by each of 8, read before that
ROUNDS = 5
PROGRAM = 250_000_000  # bytes of interpreter, libraries and compiled code
BUDGET = 120.0  # seconds

_TASKS: dict[str, Mapping[str, int]] = {
    "prefill": {"tokens": PREFILL},
    "decode": {"tokens": DECODE},
    "batch": {"streams": STREAMS, "tokens": BATCH, "past": PAST},
}
_PARTS = 4  # of the time for a model: loading, and each task
_SHORTEST = 3.0  # seconds that a round may take even when time is up: less would measure noise
Tell = Callable[[str, str], object]


@dataclass
class Speeds:
    """What one engine did with a model; None: not measured. Speeds are tokens a second, medians of rounds.

    `batch` counts the tokens of all 8 streams. `build` says which code ran.
    """

    load_seconds: float | None = None
    prefill: float | None = None
    decode: float | None = None
    batch: float | None = None
    peak_bytes: int | None = None
    page_bytes: int | None = None
    build: str = ""


@dataclass
class Row:
    """A model and its measurements. `left_out`: why some or all of them are missing."""

    name: str
    layout: str
    config: Config
    weight_bytes: int
    random: Layout | None
    path: Path | None = None
    ours: Speeds = field(default_factory=Speeds)
    peer: Speeds | None = None
    left_out: str | None = None
    cache: str = "f16"

    @property
    def read_speed(self) -> float | None:
        """Bytes of weights that decoding reads a second: each token reads all of them once."""
        return None if self.ours.decode is None else self.ours.decode * self.weight_bytes

    @property
    def needed(self) -> int:
        """Bytes of memory that measuring takes."""
        tokens = PREFILL + ROUNDS * DECODE  # and about as many again in the batch
        need = (
            estimate_memory(
                self.config, self.weight_bytes, tokens, 2, number_bytes(self.config, self.cache)
            ).total
            + PROGRAM
        )
        return need + (self.random.table_bytes(self.config) if self.random else 0)


def sizes() -> list[str]:
    """The sizes that Google released, smallest first."""
    released = [config for config in SIZES.values() if config.name != "nano"]
    return [config.name for config in sorted(released, key=lambda config: config.parameters)]


def random_row(size: str, layout: Layout, cache: str = "f16") -> Row:
    """A model of true shapes, random weights. `cache`: numbers of keys and values."""
    config = SIZES[size]
    nbytes = RandomTensors(config, layout).nbytes
    return Row(size, _shown(str(layout), cache), config, nbytes, layout, cache=cache)


def file_row(name: str, path: Path, cache: str = "f16") -> Row:
    """A model on disk; ModelFileError or UnsupportedModelError as in `load`."""
    checkpoint = open_checkpoint(path)
    layout = _layout(checkpoint)
    nbytes, path = checkpoint.tensors.nbytes, checkpoint.path
    return Row(name, _shown(layout, cache), checkpoint.config, nbytes, None, path, cache=cache)


def _shown(layout: str, cache: str) -> str:
    """The layout, and numbers of keys and values that are not the usual ones."""
    return layout if cache == "f16" else f"{layout}, cache {cache}"


@dataclass
class Survey:
    """Measures rows. `python` has llama.cpp, or is None. `all_sizes`: those that take too long are left out.

    `tell` is called with the name of a row and what is being done.
    """

    budget: float
    all_sizes: bool
    tell: Tell
    threads: int | None = None
    python: str | None = None

    _pace: float = 0.0  # seconds a byte of weights, until the last model was ready; its tasks end on time

    def run(self, rows: list[Row]) -> None:
        """Fill in the rows. When it is interrupted, those that are done stay, and a part of the next."""
        started = time.perf_counter()
        for number, row in enumerate(rows):
            left = self.budget - (time.perf_counter() - started)
            row.left_out = self._reason(row, left)
            if row.left_out:
                continue
            try:
                self._measure(row, max(left, 0.0) / (len(rows) - number) / _PARTS)
            except GemmaryError as fault:
                row.left_out = str(fault)

    def _reason(self, row: Row, left: float) -> str | None:
        """Why a row cannot be measured."""
        needed = row.needed + (row.weight_bytes if self.python else 0)
        free = free_memory()
        if needed > free:
            return f"needs {_gigabytes(needed)} of memory, and {_gigabytes(free)} are free"
        if self.all_sizes and self._pace * row.weight_bytes > left:
            return f"left out, to end in time: gemmary bench --size {row.name}"
        return None

    def _measure(self, row: Row, patience: float) -> None:
        with ExitStack() as stack:
            sides = stack.enter_context(self._sides(row))
            for task, arguments in _TASKS.items():
                self._rounds(row, sides, task, arguments, patience)
                if task == "decode":
                    for worker, speeds in sides:
                        _remember(speeds, worker.ask("memory"))

    def _rounds(
        self,
        row: Row,
        sides: list[tuple[Worker, Speeds]],
        task: str,
        arguments: Mapping[str, int],
        patience: float,
    ) -> None:
        """Rounds of a task, the sides taking turns, as long as there is patience; at least one."""
        until = time.perf_counter() + patience
        taken: list[list[float]] = [[] for _ in sides]
        for number in range(ROUNDS):
            if number and time.perf_counter() > until:
                break
            self.tell(row.name, f"{_DOING[task]}, {number + 1} of {ROUNDS}")
            for (worker, speeds), speed in zip(sides, taken, strict=True):
                done = worker.ask(task, limit=max(patience, _SHORTEST), **arguments)
                speed.append(done["tokens"] / done["seconds"])
                setattr(speeds, task, statistics.median(speed))

    @contextmanager
    def _sides(self, row: Row) -> Iterator[list[tuple[Worker, Speeds]]]:
        """The workers of a row, loaded and warm."""
        with ExitStack() as stack:
            begun = time.perf_counter()
            job: dict[str, Any] = {"threads": self.threads}
            if row.path or self.python:
                job["path"] = str(row.path or stack.enter_context(self._written(row)))
            elif row.random:
                job |= {"size": row.config.name, "body": row.random.body, "table": row.random.table}
            self.tell(row.name, f"loading {_gigabytes(row.weight_bytes)}")
            sides = [(stack.enter_context(measuring(job | {"cache": row.cache})), row.ours)]
            if self.python:
                row.peer = Speeds()
                sides.append((stack.enter_context(peer.llama(self.python, job)), row.peer))
            for worker, speeds in sides:
                _remember(speeds, worker.about)
                self.tell(row.name, "first steps (the first run ever compiles)")
                worker.ask("warm", limit=1.0)
            self._pace = (time.perf_counter() - begun) / row.weight_bytes
            yield sides

    @contextmanager
    def _written(self, row: Row) -> Iterator[Path]:
        """A row's random weights as a file."""
        if row.random is None:
            raise ValueError(f"{row.name} is a file already")
        size = _gigabytes(peer.file_bytes(row.config, row.random))
        self.tell(row.name, f"writing a temporary file of {size}, which is deleted afterwards")
        with peer.random_file(row.config, row.random) as path:
            yield path


_DOING = {"prefill": "reading", "decode": "writing", "batch": f"writing {STREAMS} texts at once"}


def _remember(speeds: Speeds, said: Mapping[str, Any]) -> None:
    """Keep what a worker said about itself."""
    for name in ("load_seconds", "peak_bytes", "page_bytes", "build"):
        if name in said:
            setattr(speeds, name, said[name])


def _layout(checkpoint: Checkpoint) -> str:
    """The formats of a file: what most of its body is in, and its table."""
    groups = checkpoint.groups()
    table = ", ".join(groups.pop("embed"))
    totals: dict[str, int] = {}
    for formats in groups.values():
        for name, count in formats.items():
            totals[name] = totals.get(name, 0) + count
    return str(Layout(max(totals, key=totals.__getitem__), table))


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB"
