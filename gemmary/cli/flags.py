"""What follows a verb: models and flags, and how they are read from text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer


def tokens(text: str) -> int:
    """A number of tokens: 8192, 8k."""
    found = re.fullmatch(r"(\d{1,9})(k?)", text.lower())
    if not found or int(found[1]) == 0:
        raise typer.BadParameter(f"{text!r} is not a number of tokens such as 8192 or 8k")
    return int(found[1]) * (1024 if found[2] else 1)


def names(incomplete: str) -> list[str]:
    """Models on this machine, for the shell's completion."""
    from ..weights.hub import BUNDLED
    from ..weights.library import cached_models

    known = [BUNDLED, *(model.name for model in cached_models())]
    return [name for name in known if name.startswith(incomplete)]


_MODEL = "A GGUF file, a folder, or a Hugging Face id; the bundled model if not said."
_ID = "Hugging Face id, such as google/gemma-3-4b-it."

Model = Annotated[str | None, typer.Argument(metavar="MODEL", autocompletion=names, help=_MODEL)]
Id = Annotated[str, typer.Argument(metavar="ID", help=_ID)]
CachedId = Annotated[str, typer.Argument(metavar="ID", autocompletion=names, help=_ID)]

Prompt = Annotated[
    str | None,
    typer.Option("-p", "--prompt", metavar="TEXT", help="Answer this once; piped input is added."),
]
Image = Annotated[
    list[Path] | None,
    typer.Option("--image", metavar="FILE", help="Show this picture first; may be repeated."),
]
Mmproj = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="The picture half of a GGUF model; the one beside it if not said."),
]
PanAndScan = Annotated[
    bool, typer.Option("--pan-and-scan", help="Show crops of wide and tall pictures too, for small print.")
]
Tiles = Annotated[
    int | None,
    typer.Option(
        metavar="N", help="Show N x N crops of any picture, 2 to 8, for large ones with small print."
    ),
]
System = Annotated[str | None, typer.Option(metavar="TEXT", help="System prompt.")]
MaxTokens = Annotated[int | None, typer.Option(metavar="N", min=1, help="Longest answer, in tokens.")]
Temperature = Annotated[float, typer.Option(metavar="X", min=0.0, help="0: always the likeliest.")]
TopK = Annotated[int, typer.Option(metavar="N", min=0, help="Choose among so many; 0: all.")]
TopP = Annotated[float, typer.Option(metavar="X", min=0.0, max=1.0, help="Leave out the unlikely rest.")]
MinP = Annotated[float, typer.Option(metavar="X", min=0.0, max=1.0, help="Least share of the best.")]
Seed = Annotated[int | None, typer.Option(metavar="N", help="The same seed gives the same text.")]
Context = Annotated[
    int | None, typer.Option(metavar="TOKENS", parser=tokens, help="Prompt and answer together: 8192, 8k.")
]
Draft = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        autocompletion=names,
        help="A smaller model with the same vocabulary that guesses ahead; the answer stays the same.",
    ),
]
Cache = Annotated[
    str | None,
    typer.Option(metavar="FORMAT", help="Of keys and values: f16, bf16, f32; int8 takes half the memory."),
]
Threads = Annotated[int | None, typer.Option(metavar="N", min=1, help="Cores to use; all if not said.")]
Json = Annotated[bool, typer.Option("--json", help="One answer as JSON, with counts and times.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Speed and tokens, on stderr.")]
Yes = Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")]
