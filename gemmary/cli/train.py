"""`gemmary train`: a Gemma 3 of any size, from files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import GemmaryError, MemoryBudgetError
from .terminal import Waiting, note, printable

if TYPE_CHECKING:
    from ..train.run import Result, Run
    from ..train.runcost import Cost
    from ..train.runplan import RunPlan

REPEATS = 4  # of data that are nearly as good as new data (Muennighoff et al., arXiv 2305.16264)

RunFile = Annotated[
    Path | None, typer.Argument(metavar="RUN.toml", help="What to train, on what, how; see --example.")
]
Out = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Where everything goes; the name of RUN.toml if not said."),
]
Steps = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Train so many steps; what the file says if not said.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what it takes, and do nothing.")]
Size = Annotated[
    str | None, typer.Option("--plan", metavar="SIZE", help="Memory and time of a size on --chips; no file.")
]
Chips = Annotated[str | None, typer.Option(metavar="NxCHIP", help="With --plan: 8xH100, 64xH100, ...")]
Example = Annotated[
    bool, typer.Option("--example", help="Print a file to begin with, for the texts in this folder.")
]


def train(
    run: RunFile = None,
    out: Out = None,
    steps: Steps = None,
    dry_run: DryRun = False,
    example: Example = False,
    size: Size = None,
    chips: Chips = None,
) -> None:
    """Train a Gemma 3 of any size: files to a model that chats.

    Texts are cleaned and packed, the model learns them, and is written as a GGUF file and as a folder for
    transformers. Ctrl-C stops with a checkpoint; the same command goes on from there, exactly.

    \b
    gemmary train --example > run.toml     a file to begin with; it explains itself
    gemmary train run.toml --dry-run       parameters, tokens, steps, memory
    gemmary train run.toml                 everything goes to the folder run
    gemmary train run.toml --steps 1000    longer, if its learning rate has not come down yet
    gemmary train --plan 27b --chips 64xH100      what a large one needs, before anybody pays for it
    torchrun --nproc-per-node 8 -m gemmary train run.toml      on eight devices
    """
    if example:
        from ..train.runexample import example as written

        print(written(Path.cwd()), end="")
        return
    if (size is None) != (chips is None):
        raise typer.BadParameter("--plan and --chips go together: --plan 27b --chips 64xH100")
    if size is not None and chips is not None:
        from .footprint import show_plan

        return show_plan(size, chips)
    if run is None:
        raise typer.BadParameter("name a RUN.toml; `gemmary train --example > run.toml` writes one")
    _check_installed()
    found = _run(run, out, steps)
    if _speaks():
        _show(cost := found.cost(), found)
        if "WORLD_SIZE" not in os.environ and not dry_run and not found.folder.trained(cost.steps):
            _check_memory(cost)
    if not dry_run:
        _finish(found)


def _speaks() -> bool:
    """Whether this process speaks: torchrun starts several."""
    return os.environ.get("RANK", "0") == "0"


def _check_installed() -> None:
    from ..train.installation import check_installed

    with Waiting("Loading PyTorch"):
        check_installed()


def _run(file: Path, out: Path | None, steps: int | None) -> Run:
    from ..train.run import Run
    from ..train.runplan import longer, read_run

    plan = read_run(file)
    if steps is not None:
        plan = longer(plan, steps)
    if out is None and not file.suffix:
        raise GemmaryError(f"{file}: say where the run goes with --out")
    return Run(plan, out or Path(file.stem), _Voice())


class _Voice:
    """Lines on stderr; what is being done shows where something can move."""

    def say(self, line: str) -> None:
        if _speaks():
            note(printable(line))

    @contextmanager
    def doing(self, text: str) -> Iterator[Callable[[str], None]]:
        with Waiting(text) as wait:
            yield wait.say


# What it takes


def _show(cost: Cost, run: Run) -> None:
    lines = {
        "model": f"{_count(cost.parameters)} parameters, {_count(cost.table)} of them in the table",
        "data": _data(cost),
        "steps": _steps(cost),
        "memory": f"about {_bytes(cost.memory)}; this machine has {_bytes(_machine())}",
        "disk": f"up to {_bytes(cost.disk)} for checkpoints and the model, in {run.folder.path}",
    }
    for name, line in lines.items():
        note(printable(f"{name:8}{line}"))
    if cost.epochs > REPEATS:
        note(f"Beyond {REPEATS} times little is learnt but the texts themselves: more text helps more.")
    slow = run.plan.train.learning.warmup + run.plan.train.learning.cooldown
    if slow > cost.steps:
        note(f"Warm-up and cool-down take {slow:,} steps: the learning rate never reaches its peak.")


def _data(cost: Cost) -> str:
    tokens = f"{_count(cost.tokens)} tokens"
    return tokens if cost.exact else f"about {tokens} before cleaning"


def _steps(cost: Cost) -> str:
    about = "" if cost.exact else "about "
    return f"{cost.steps:,} of {cost.step_tokens:,} tokens each: {about}{cost.epochs:.2g} times the data"


def _machine() -> int:
    from ..engine.memory import machine_memory
    from ..train.runmodel import device_memory

    return device_memory() or machine_memory()


def _check_memory(cost: Cost) -> None:
    there = _machine()
    if cost.fixed > there:
        raise MemoryBudgetError(
            f"weights, gradients and optimizer alone take {_bytes(cost.fixed)}, and this machine has "
            f"{_bytes(there)}: take a smaller model"
        )


def _count(number: int) -> str:
    for unit, size in (("B", 10**9), ("M", 10**6)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:,}"


def _bytes(number: int) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"


# The work


def _finish(run: Run) -> None:
    try:
        result = run.run()
    except KeyboardInterrupt:
        note("\nStopped. The same command goes on from here.")
        raise typer.Exit(130) from None
    if not result.done:
        note(f"Stopped at step {result.step:,}. The same command goes on from there.")
        raise typer.Exit(130)
    if not _speaks():
        return
    if not result.paths and run.plan.save.gguf != run.plan.save.safetensors:
        note(printable(f"Trained. Write the model: gemmary train {run.plan.path} --out {run.folder.path}"))
        return
    _say_result(run.plan, result, run.folder.data)


def _say_result(plan: RunPlan, result: Result, data: Path) -> None:
    from ..train.rundata import left_out

    if plan.data is not None and (line := left_out(data)) is not None:
        note(printable(line))
    for path in result.paths:
        print(printable(str(path)))
    chats = [path for path in result.paths if path.suffix == ".gguf"] or list(result.paths)
    if chats:
        note(printable(f"Next: gemmary chat {os.fspath(chats[0])}"))
