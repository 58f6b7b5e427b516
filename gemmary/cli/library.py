"""`gemmary pull`, `gemmary list`, `gemmary rm`: models on this machine."""

from __future__ import annotations

from contextlib import suppress

import typer

from ..errors import GemmaryError, ModelFileError
from . import flags
from .show import size
from .terminal import confirm, interactive, note, printable


def pull(model: flags.Id) -> None:
    """Download a model into the cache that Hugging Face's tools share, and print its path.

    Of Google's models it takes the official 4-bit file; ID:bf16 takes the 16-bit weights. Stop it at any
    time: the same command goes on. Google's models ask you to accept their licence once; pull says how.

    \b
    gemmary pull google/gemma-3-4b-it            the 4-bit file and its picture half, 4.0 GB
    gemmary pull 1b                              short for google/gemma-3-1b-it
    gemmary pull google/gemma-3-1b-it:bf16       16 bits, 2.0 GB
    gemmary pull someone/gemma-3-4b-GGUF:Q8_0    one file of many
    """
    from ..weights.library import sees
    from .opening import fetch

    try:
        path = fetch(model)
    except KeyboardInterrupt:
        note(f"\nStopped. What has arrived stays: `gemmary pull {model}` goes on.")
        raise typer.Exit(130) from None
    print(printable(str(path)))
    note(f"Ready: gemmary chat {model}{' --image FILE, or without' if sees(path) else ''}")


def list_() -> None:
    """The Gemma 3 models on this machine.

    \b
    gemmary list
    gemmary list | grep Q4_0
    """
    from ..weights.hub import BUNDLED, bundled
    from ..weights.library import cached_models, sees

    rows = []
    with suppress(ModelFileError):  # an installation without it
        rows.append((BUNDLED, size(bundled().stat().st_size), "comes with Gemmary"))
    for model in cached_models():
        state = model.format if model.path else f"unfinished: gemmary pull {model.name} goes on"
        eyes = ", sees pictures" if model.path and sees(model.path) else ""
        rows.append((model.name, size(model.bytes), state + eyes))
    width = max((len(name) for name, _, _ in rows), default=0)
    for name, bytes_, state in rows:
        print(printable(f"{name:{width}}  {bytes_:>9}  {state}"))


def rm(model: flags.CachedId, yes: flags.Yes = False) -> None:
    """Delete a model from the cache. Asks first.

    \b
    gemmary rm google/gemma-3-4b-it
    gemmary rm google/gemma-3-1b-it:bf16 -y
    """
    from ..weights import library
    from ..weights.hub import parse

    reference = parse(model)
    if reference is None:
        raise GemmaryError(f"{model}: is not the id of a model in the cache; `gemmary list` shows them")
    wanted = reference.preferred
    there = library.size(wanted.repo)
    siblings = [other.name for other in library.cached_models() if other.name.startswith(f"{wanted.repo}:")]
    if wanted.quant and len(siblings) > 1:
        raise GemmaryError(
            f"the cache keeps {', '.join(siblings)} together; delete them all with: gemmary rm {wanted.repo}"
        )
    if there and not yes:
        if not interactive():
            raise GemmaryError("rm asks before it deletes, and there is no terminal; say -y")
        if not confirm(f"Delete {wanted.repo}, {size(there)}?", default=False):
            raise typer.Exit(1)
    library.remove(wanted.repo)
    note(f"Deleted {wanted.repo}, {size(there)}.")
