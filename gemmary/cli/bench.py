"""`gemmary bench`: how fast this machine is with each size, before any download."""

from __future__ import annotations

import json as json_
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..config import SIZES
from ..errors import GemmaryError
from . import flags
from .terminal import Waiting, note

if TYPE_CHECKING:
    from ..engine.survey import Row

_FORMATS = {"q4_0": "Q4_0", "q8_0": "Q8_0", "f16": "F16"}

Model = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL", autocompletion=flags.names,
        help="A GGUF file, a folder, or a Hugging Face id to measure; every size if not said.",
    ),
]  # fmt: skip
Size = Annotated[
    list[str] | None,
    typer.Option("--size", metavar="SIZE", help="Measure this size with random weights; may be repeated."),
]
Body = Annotated[str, typer.Option(metavar="q4_0|q8_0", help="Number format of random weights.")]
Table = Annotated[str, typer.Option(metavar="q8_0|f16", help="Number format of their token table.")]
Budget = Annotated[float, typer.Option(metavar="SECONDS", min=1, help="About how long it may take.")]
Against = Annotated[
    str | None, typer.Option(metavar="llama.cpp", help="Measure this too, in turns, where it is installed.")
]
Json = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]


def bench(
    model: Model = None,
    size: Size = None,
    layout: Body = "q4_0",
    table: Table = "q8_0",
    against: Against = None,
    budget: Budget = 120,
    threads: flags.Threads = None,
    cache: flags.Cache = None,
    json: Json = False,
) -> None:
    """How fast this machine runs Gemma 3: reading, writing, memory, for each size that fits.

    The weights are random, made in memory: nothing is downloaded, and the speed is that of the real ones.
    Ctrl-C ends it and shows what was measured so far.

    \b
    gemmary bench                                  every size that fits, about two minutes
    gemmary bench --size 1b --table f16            one size, laid out as Google's 4-bit file
    gemmary bench gemma-3-4b-it-q4_0.gguf          a file
    gemmary bench --size 1b --against llama.cpp    beside llama.cpp, where it is installed
    """
    from ..engine import peer, survey
    from ..engine.memory import check_cache
    from .report import as_json, machine, show

    check_cache(cache)
    rows = _rows(model, size or [], layout, table, cache or "f16")
    if against not in (None, peer.NAME):
        raise typer.BadParameter(f"--against knows {peer.NAME}, not {against!r}")
    python = peer.find() if against else None
    interrupted = False
    with Waiting("Reading memory") as wait:
        host = machine(threads)
        try:
            survey.Survey(budget, not (model or size), _teller(wait), threads, python).run(rows)
        except KeyboardInterrupt:
            interrupted = True
    if json:
        print(json_.dumps(as_json(host, rows, interrupted), indent=2))
    else:
        show(host, rows)
    if interrupted:
        note("Stopped: this is what was measured.")
        raise typer.Exit(130)
    if all(row.left_out for row in rows):
        raise typer.Exit(1)


def _teller(wait: Waiting) -> Callable[[str, str], None]:
    """Shows what is being done; where nothing can move, a line for each model and each file."""

    def tell(name: str, doing: str) -> None:
        wait.say(f"{name}: {doing}")
        if not sys.stderr.isatty() and doing.startswith(("loading", "writing a temporary")):
            note(f"{name}: {doing} ...")

    return tell


def _rows(model: str | None, sizes: list[str], layout: str, table: str, cache: str) -> list[Row]:
    """What to measure."""
    from ..engine import survey
    from ..weights.synthetic import Layout

    if model is not None and sizes:
        raise typer.BadParameter("name a model or sizes, not both")
    if model is not None:
        name = Path(model).name if Path(model).expanduser().exists() else model
        return [survey.file_row(name, _located(model), cache)]
    for name in sizes:
        if name not in SIZES:
            raise typer.BadParameter(f"there is no size {name!r}; there are {', '.join(SIZES)}")
    for option, value, known in (("--layout", layout, ("q4_0", "q8_0")), ("--table", table, ("q8_0", "f16"))):
        if value not in known:
            raise typer.BadParameter(f"{option} is {' or '.join(known)}, not {value!r}")
    formats = Layout(_FORMATS[layout], _FORMATS[table])
    return [survey.random_row(name, formats, cache) for name in sizes or survey.sizes()]


def _located(model: str) -> Path:
    """The file of a model; for one that has to be fetched, the error says how to measure without it."""
    from ..weights.hub import NotDownloadedError, locate

    try:
        return locate(model)
    except NotDownloadedError as fault:
        size = fault.reference.size
        if size is None:
            raise
        raise GemmaryError(f"{fault}; or measure random weights: `gemmary bench --size {size}`") from None
