"""What `gemmary bench` found: a table and sentences for people, or JSON for programs."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..engine.measure import STREAMS
from ..engine.survey import Row, Speeds
from .show import size
from .terminal import printable

if TYPE_CHECKING:
    from rich.table import Table

WORDS = 0.75  # English words a token, about
REPLY = 200  # words
TALK = 8192  # tokens: the context that the memory in a sentence counts
WIDTH = 110  # columns where stdout is no terminal


@dataclass(frozen=True)
class Machine:
    """What the numbers were measured on. `bandwidth`: bytes a second that all threads read together."""

    cpu: str
    threads: int
    memory: int
    kernels: str
    bandwidth: float


def machine(threads: int | None) -> Machine:
    """Look at this machine, and measure how fast it reads its memory."""
    from ..engine.host import cpu_model, read_bandwidth
    from ..engine.memory import machine_memory
    from ..ops.numba.machine import path, usable_cores

    count = threads or usable_cores()
    return Machine(cpu_model(), count, machine_memory(), path(), read_bandwidth(count))


def as_json(host: Machine, rows: list[Row], interrupted: bool) -> dict[str, Any]:
    """Everything that was measured. Bytes, seconds, tokens a second; null where it was not."""
    from .. import __version__

    return {
        "gemmary": __version__,
        "machine": {
            "cpu": host.cpu,
            "threads": host.threads,
            "memory_bytes": host.memory,
            "kernels": host.kernels,
            "read_bytes_per_second": host.bandwidth,
        },
        "rows": [_json_row(host, row) for row in rows],
        "interrupted": interrupted,
    }


def show(host: Machine, rows: list[Row]) -> None:
    """Print header, table and sentences."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False, markup=False)
    console.print(
        printable(
            f"{host.cpu}, {host.threads} threads, {size(host.memory)} of memory read at "
            f"{host.bandwidth / 1e9:.1f} GB/s, {host.kernels} kernels"
        )
    )
    measured = [row for row in rows if row.ours != Speeds()]
    if measured:
        console.print(_table(host, measured))
    for row in rows:
        for line in sentences(row):
            console.print(printable(line))


def sentences(row: Row) -> list[str]:
    """What the numbers mean for somebody who wants to talk to the model."""
    lines = []
    if row.ours.decode:
        speed = row.ours.decode * WORDS
        lines.append(
            f"{row.name} ({row.layout}): about {_digits(speed)} words a second; a reply of {REPLY} words "
            f"takes {_digits(REPLY / speed)} s. {_needs(row)}{_download(row)}"
        )
    if row.left_out:
        lines.append(f"{row.name}: {row.left_out}")
    if row.peer and row.peer.build:
        lines.append(f"{row.name}: llama.cpp was built with {row.peer.build}")
    return lines


def _needs(row: Row) -> str:
    from ..engine.memory import estimate_memory
    from ..engine.survey import PROGRAM

    context = min(TALK, row.config.context)
    total = estimate_memory(row.config, row.weight_bytes, context).total + PROGRAM
    return f"It takes {size(total)} of memory with a context of {context:,} tokens."


def _download(row: Row) -> str:
    """Where the real weights of a random row are."""
    from ..weights.hub import parse

    reference = parse(row.name) if row.random else None
    if reference is None or reference.preferred.download_bytes is None:
        return ""
    wanted = reference.preferred
    what = "Google's 4-bit file" if wanted != reference else "Google's 16-bit file"
    eyes = ", the half for pictures included" if row.config.vision is not None else ""
    return f" {what}, {wanted.repo}, is {size(wanted.download_bytes or 0)}{eyes}: gemmary pull {row.name}"


def _table(host: Machine, rows: list[Row]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("model", overflow="fold")
    titles = ("load\ns", "read\ntok/s", "write\ntok/s", f"{STREAMS} at once\ntok/s", "memory\nGB")
    for title in (*titles, "weights\nGB", "pages\nGB", "reads\nGB/s"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.name, *_cells(row.ours), _gigabytes(row.weight_bytes),
            _gigabytes(row.ours.page_bytes), _reads(host, row),
        )  # fmt: skip
        if row.peer:
            table.add_row("llama.cpp", *_cells(row.peer))
            table.add_row("ratio", "", *(_times(value) for value in _ratios(row).values()))
    table.caption = (
        "read: a prompt of 512 tokens; write: one text; memory: the peak\n"
        "reads: weights while writing, and the share of what this machine can read"
    )
    return table


def _cells(speeds: Speeds) -> list[str]:
    numbers = (speeds.load_seconds, speeds.prefill, speeds.decode, speeds.batch)
    return [*("" if number is None else _digits(number) for number in numbers), _gigabytes(speeds.peak_bytes)]


def _reads(host: Machine, row: Row) -> str:
    """How fast writing reads the weights, and which part of this machine's speed that is."""
    if row.read_speed is None:
        return ""
    return f"{row.read_speed / 1e9:.1f} ({100 * row.read_speed / host.bandwidth:.0f} %)"


def _gigabytes(count: int | None) -> str:
    return "" if count is None else f"{count / 1e9:.2f}"


def _ratios(row: Row) -> dict[str, float | None]:
    """Ours over the peer's."""
    pairs = {
        name: (getattr(row.ours, name), getattr(row.peer, name)) for name in ("prefill", "decode", "batch")
    }
    return {name: ours / theirs if ours and theirs else None for name, (ours, theirs) in pairs.items()}


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}x"


def _digits(number: float) -> str:
    """Three digits that matter, no more."""
    return f"{number:.0f}" if number >= 100 else f"{number:.1f}" if number >= 10 else f"{number:.2f}"


def _json_row(host: Machine, row: Row) -> dict[str, Any]:
    found = {
        "model": row.name,
        "layout": row.layout,
        "random_weights": row.random is not None,
        "weight_bytes": row.weight_bytes,
        "bytes_per_token": row.weight_bytes,
        **_json_speeds(row.ours),
        "page_bytes": row.ours.page_bytes,
        "kernels": row.ours.build or None,
        "read_bytes_per_second": row.read_speed,
        "bandwidth_share": None if row.read_speed is None else row.read_speed / host.bandwidth,
        "left_out": row.left_out,
    }
    if row.peer:
        found["llama.cpp"] = {**_json_speeds(row.peer), "build": row.peer.build}
        found["ratio"] = _ratios(row)
    return found


def _json_speeds(speeds: Speeds) -> dict[str, Any]:
    return {
        "load_seconds": speeds.load_seconds,
        "prefill_tokens_per_second": speeds.prefill,
        "decode_tokens_per_second": speeds.decode,
        "batch_of_8_tokens_per_second": speeds.batch,
        "peak_memory_bytes": speeds.peak_bytes,
    }
