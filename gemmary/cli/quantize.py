"""`gemmary quantize`, `gemmary convert`: a model in other number formats."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ..errors import GemmaryError
from .terminal import PATIENCE, Waiting, download_progress, note, printable

if TYPE_CHECKING:
    from ..engine.compare import Comparison

Source = Annotated[
    str,
    typer.Argument(metavar="SRC", help="A GGUF file, a folder with config.json and *.safetensors, or an id."),
]
File = Annotated[Path, typer.Argument(metavar="DST", help="The GGUF file to write.")]
FileOrFolder = Annotated[Path, typer.Argument(metavar="DST", help="NAME.gguf, or a folder for safetensors.")]
Body = Annotated[
    Literal["q4_0", "int4", "q8_0", "f16", "bf16"],
    typer.Option(case_sensitive=False, help="Format of the matrices; int4 has one scale a row."),
]
Table = Annotated[
    Literal["q8_0", "q6_k", "f16", "bf16"] | None,
    typer.Option(case_sensitive=False, help="Format of the token table; q8_0 if not said, a float as --to."),
]
Floats = Annotated[
    Literal["bf16", "f16", "f32"], typer.Option(case_sensitive=False, help="Format of the matrices.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace DST if it is there.")]
Check = Annotated[
    Path | None,
    typer.Option(metavar="TEXTFILE", help="Say what it costs, by KL and perplexity on this text."),
]
CheckTokens = Annotated[int, typer.Option(metavar="N", min=2, help="How much of the text to read.")]


def quantize(
    source: Source,
    target: File,
    to: Body,
    table: Table = None,
    force: Force = False,
    check: Check = None,
    check_tokens: CheckTokens = 512,
) -> None:
    """Write a model with smaller numbers, as a GGUF file.

    llama.cpp reads it, too. Norms stay float32, and rows that do not divide into blocks F16. What is in its
    format already is copied as it is. DST appears whole or not at all.

    \b
    gemmary quantize ./gemma-3-1b-it 1b-q4_0.gguf --to q4_0
    gemmary quantize google/gemma-3-4b-it:bf16 4b.gguf --to q4_0 --table q6_k
    gemmary quantize ./tuned tuned.gguf --to q8_0 --check held-out.txt
    """
    from ..engine.compare import comparable_ids
    from ..weights.hub import locate
    from ..weights.requantize import quantize as write

    path = locate(source)
    ids = None if check is None else comparable_ids(path, _text(check), check_tokens)
    with _writing(target) as tell:
        write(path, target, to, table, force, tell, note)
    if ids is not None:
        _print(_compared(path, target, ids), to)


def convert(source: Source, target: FileOrFolder, to: Floats = "bf16", force: Force = False) -> None:
    """Write a model as GGUF or as safetensors, in floats.

    The tokenizer and the chat template come along. transformers reads the folder, llama.cpp the file. DST
    appears whole or not at all.

    \b
    gemmary convert gemma-3-1b-it-q4_0.gguf ./gemma-3-1b-it
    gemmary convert ./tuned tuned.gguf --to f16
    """
    from ..weights.hub import locate
    from ..weights.requantize import convert as write

    path = locate(source)
    with _writing(target) as tell:
        write(path, target, to, force, tell, note)


@contextmanager
def _writing(target: Path) -> Iterator[Callable[[int, int], None]]:
    """Progress of writing; what is said when it is over, or stopped."""
    try:
        with download_progress(f"Writing {printable(target.name)}") as tell:
            began = monotonic()
            yield lambda done, total: tell(done, total) if monotonic() - began > PATIENCE else None
    except KeyboardInterrupt:
        note(f"\nStopped. {printable(str(target))} was not written.")
        raise typer.Exit(130) from None
    note(f"Wrote {printable(str(target))}. Look at it: gemmary show {printable(str(target))}")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise GemmaryError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise GemmaryError(f"{path}: is not UTF-8 text; check with another file") from None


def _compared(source: Path, target: Path, ids: list[int]) -> Comparison:
    from ..engine.compare import compare

    try:
        with Waiting("Loading both models") as waiting:
            return compare(
                source, target, ids, lambda done, total: waiting.say(f"Checked {done} of {total} tokens")
            )
    except KeyboardInterrupt:
        note(f"\nThe check was stopped. {printable(str(target))} is written.")
        raise typer.Exit(130) from None


def _print(found: Comparison, name: str) -> None:
    print(f"{found.tokens:,} tokens   perplexity   KL per token   same first choice")
    width = len(f"{found.tokens:,} tokens")
    print(f"{'float32':{width}}   {found.before:10.3f}")
    print(f"{name:{width}}   {found.after:10.3f}   {found.divergence:12.5f}   {found.agreement:17.1%}")
