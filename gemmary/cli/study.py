"""`gemmary study`: the report's ablations at toy scale."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import GemmaryError
from .terminal import note

if TYPE_CHECKING:
    from ..recipes.studies.study import Findings, Study

Name = Annotated[str | None, typer.Argument(metavar="NAME", help="Which study; without it, a list of them.")]
Data = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Has books/; GEMMARY_DATA or ../shared/data if not said."),
]
Work = Annotated[
    Path, typer.Option(metavar="FOLDER", help="For models and runs: a study that was cut goes on.")
]
Out = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="For figure, JSON and page; that of --work if not said.")
]
Seeds = Annotated[int, typer.Option(metavar="N", min=2, max=13, help="Runs of each variant.")]
Quick = Annotated[
    bool, typer.Option("--quick", help="Seconds, to see that it runs; the numbers mean nothing.")
]


def study(
    name: Name = None,
    data: Data = None,
    work: Work = Path("runs/studies"),
    out: Out = None,
    seeds: Seeds = 3,
    quick: Quick = False,
) -> None:
    """The report's ablations at toy scale: a figure, every number, and a sentence beside the report's.

    Minutes on one core, but for kv, which is arithmetic. Ctrl-C keeps what is done: the same command goes on.

    \b
    gemmary study                            the studies
    gemmary study ratio                      one of them
    gemmary study kv --out docs/studies      with its results where they are shown
    """
    from ..recipes.studies import catalogue

    if name is None:
        width = max(map(len, catalogue.TITLES))
        for known, title in catalogue.TITLES.items():
            print(f"{known:{width}}  {title}")
        return
    work = work / "quick" if quick else work
    folder = data or Path(os.environ.get("GEMMARY_DATA", "../shared/data"))
    try:
        found = catalogue.find(name, folder, work, quick)
    except ModuleNotFoundError as fault:
        raise GemmaryError(
            f"the study {name} trains models, and {fault.name} is not installed: pip install 'gemmary[train]'"
        ) from None
    _show(found, _results(found, work, out or work, seeds))


def _results(found: Study, work: Path, out: Path, seeds: int) -> Findings:
    from ..recipes.studies.origin import origin
    from ..recipes.studies.page import write

    here = origin()
    try:
        runs = found.runs(work / found.name, seeds, note, here["commit"])
    except KeyboardInterrupt:
        note("Stopped. The same command goes on from here.")
        raise typer.Exit(130) from None
    findings = write(found, runs, out, here)
    note(f"{out / found.name}.md, .json and .svg are written.")
    return findings


def _show(found: Study, findings: Findings) -> None:
    for lines in findings.tables:
        widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
        for line in lines:
            print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
        print()
    for sentence in findings.sentences:
        print(sentence)
    print(f"The report: {found.theirs}")
    sys.stdout.flush()
