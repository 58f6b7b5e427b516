"""`gemmary <verb>`: thin. Each verb imports what it needs when it runs, so that --help is instant."""

from __future__ import annotations

import sys
import warnings
from typing import Annotated

import typer

from ..errors import GemmaryError
from .bench import bench
from .chat import chat
from .library import list_, pull, rm
from .ps import ps
from .quantize import convert, quantize
from .serve import Serve, serve
from .show import show
from .study import study
from .terminal import note, printable
from .train import train

# `serve` reads its flags itself: they are the settings of a storey that not everybody has installed.
PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}

app = typer.Typer(
    name="gemmary",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("chat")(chat)
app.command("serve", cls=Serve, add_help_option=False, context_settings=PASSED_ON)(serve)
app.command("ps")(ps)
app.command("show")(show)
app.command("pull")(pull)
app.command("list")(list_)
app.command("rm")(rm)
app.command("bench")(bench)
app.command("quantize")(quantize)
app.command("convert")(convert)
app.command("study")(study)
app.command("train")(train)


def _version(wanted: bool) -> None:
    if wanted:
        from .. import __version__

        print(f"gemmary {__version__}")
        raise typer.Exit


@app.callback()
def gemmary(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """All of Gemma 3 on your machine.

    \b
    gemmary chat                               talk to the bundled model, offline
    gemmary chat -p "Why is the sky blue?"     one answer on stdout
    gemmary pull google/gemma-3-4b-it          fetch Google's 4B, in 4 bits
    gemmary show google/gemma-3-4b-it          its sizes, formats and memory
    gemmary bench                              this machine's speed with each size, before any download
    gemmary train --example > run.toml         train one of your own
    """


def main() -> None:
    """Run the command line: 0 done, 1 an error, 2 a wrong call, 130 stopped with Ctrl-C."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    warnings.showwarning = lambda message, *_: note(printable(f"gemmary: {message}"))
    try:
        app()
    except GemmaryError as fault:
        note(printable(f"gemmary: {fault}"))
        sys.exit(1)
