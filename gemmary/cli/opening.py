"""A model by the name that a user types: found, offered for download, loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..config import SIZES
from ..weights.hub import NotDownloadedError, Reference, bundled, locate, snapshot
from .preparing import preparing
from .terminal import Waiting, confirm, download_progress, interactive, note

if TYPE_CHECKING:
    from ..engine.memory import Cache
    from ..engine.model import Model

TALK = 8192  # tokens: the context that an offer counts memory for


def find(name: str | None) -> Path:
    """The file or folder of a model; None is the bundled one. What is missing is offered for download."""
    if name is None:
        return bundled()
    try:
        return locate(name)
    except NotDownloadedError as fault:
        if not interactive():
            raise
        note(offer(fault.reference))
        if not confirm("Download it now?", default=False):
            raise
        return fetch(str(fault.reference))


def fetch(name: str) -> Path:
    """Download a model, with progress."""
    from ..weights.download import pull

    with download_progress(name) as tell:
        return pull(name, tell)


def offer(reference: Reference) -> str:
    """What a download brings, and what it asks for."""
    wanted = reference.preferred
    if wanted.size is None:
        return f"{reference} is not on this machine yet; it would come from {wanted.url}."
    here = "is here in 16 bits, slow on a CPU" if snapshot(reference.repo) else "is not on this machine yet"
    what = "Google's 4-bit file" if wanted != reference else "The 16-bit weights"
    if wanted != reference and SIZES[wanted.size].vision is not None:
        what += " and the one for pictures"
    return (
        f"{reference} {here}. {what}, {wanted.repo}:\n"
        f"  download  {_gigabytes(wanted.download_bytes or 0)}, once, into Hugging Face's cache\n"
        f"  memory    {memory(wanted)}\n"
        f"  licence   accept it once at {wanted.url}, and log in: hf auth login"
    )


def memory(reference: Reference) -> str:
    """What an official model needs to run, and what there is."""
    from ..engine.memory import estimate_memory, machine_memory

    config = SIZES[reference.size or ""]
    needed = estimate_memory(config, reference.download_bytes or 0, TALK).total
    there = machine_memory()
    enough = "this machine has" if needed < there else "TOO MUCH for this machine, which has"
    return f"{_gigabytes(needed)} with a context of {TALK:,} tokens; {enough} {_gigabytes(there)}"


def load(
    path: Path,
    context: int | None,
    threads: int | None,
    draft: Path | None = None,
    cache: Cache | None = None,
    mmproj: Path | None = None,
) -> Model:
    """The model, ready to talk. `draft`: a smaller one that guesses for it. `mmproj`: its picture half."""
    with Waiting("Loading the model") as wait:
        from ..engine.load import load as load_model

        with preparing(wait):
            return load_model(path, mmproj=mmproj, context=context, threads=threads, draft=draft, cache=cache)


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
