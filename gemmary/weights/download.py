"""The hub -> the cache: fetch what a model needs, and say plainly what is in the way."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, constants, get_token, hf_hub_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import disable_progress_bars

from .hub import NotDownloadedError, Reference, cache, cached, choose, is_model_gguf, parse, storage
from .partial import DownloadError, LargeFile, fetch

Progress = Callable[[int, int], object]

LARGE = 4 << 20  # what is smaller starts again when it was interrupted


@dataclass(frozen=True)
class Listing:
    """What a model consists of at the commit that is current on the hub: sizes of its files by name."""

    repo: str
    commit: str
    sizes: dict[str, int]
    large: dict[str, LargeFile]

    @property
    def total(self) -> int:
        """Bytes of all files."""
        return sum(self.sizes.values())

    @property
    def missing(self) -> int:
        """Bytes that have to be downloaded."""
        return sum(size - self._arrived(name) for name, size in self.sizes.items())

    def _arrived(self, name: str) -> int:
        if (storage(self.repo) / "snapshots" / self.commit / name).is_file():
            return self.sizes[name]
        return self.large[name].arrived if name in self.large else 0


def pull(source: str, progress: Progress | None = None) -> Path:
    """Download a model into the shared cache and return its GGUF file or folder; see hub.py for its names.

    Only what the model needs, never a pickle, nothing twice. `progress(done, total)` gets bytes. With
    HF_HUB_OFFLINE set, only the cache is looked at. DownloadError: a licence that was not accepted, a wrong
    name, a lost connection, a full disk; calling again goes on where it stopped.
    """
    named = parse(source)
    if named is None:
        raise DownloadError(f"{source}: is not a model of the hub; name one like google/gemma-3-4b-it")
    wanted = named.preferred
    if constants.HF_HUB_OFFLINE:
        return _offline(wanted)
    with _plain_faults(wanted):
        listing = remote(wanted)
        _check_disk(listing)
        _fetch_all(listing, progress or (lambda done, total: None))
        _set_main(listing)
    return cached(wanted)


def remote(reference: Reference) -> Listing:
    """The files of a model on the hub."""
    info = HfApi().model_info(reference.repo, files_metadata=True)
    found = {item.rfilename: item for item in info.siblings or ()}
    names = choose(found, reference)
    if not names or info.sha is None:
        others = ", ".join(name for name in found if is_model_gguf(name)) or "nothing that Gemmary could run"
        wanted = f"{reference.quant} weights" if reference.quant else "GGUF file and no safetensors"
        raise DownloadError(f"{reference.repo}: has no {wanted}, but {others}")
    sizes = {name: found[name].size or 0 for name in names}
    large = {
        name: LargeFile(reference.repo, info.sha, name, sizes[name], lfs.sha256)
        for name in names
        if (lfs := found[name].lfs) is not None and sizes[name] >= LARGE
    }
    return Listing(reference.repo, info.sha, sizes, large)


def _offline(wanted: Reference) -> Path:
    try:
        return cached(wanted)
    except NotDownloadedError:
        raise DownloadError(
            f"{wanted}: is not on this machine, and HF_HUB_OFFLINE forbids the network; "
            "unset it, or copy the model's files here and name their path"
        ) from None


def _check_disk(listing: Listing) -> None:
    folder = next(path for path in (cache(), *cache().parents) if path.is_dir())
    missing, free = listing.missing / 1e9, shutil.disk_usage(folder).free / 1e9
    if missing > free:
        raise DownloadError(
            f"{listing.repo}: {missing:.1f} GB have to be downloaded, but {folder} has {free:.1f} GB free; "
            "make room there, or set HF_HOME to a folder on a larger disk"
        )


def _fetch_all(listing: Listing, progress: Progress) -> None:
    """Every file into the cache; huggingface_hub keeps the books: links, and all that is small."""
    disable_progress_bars()  # ours counts all files together
    before = 0

    def tell(done: int) -> None:
        progress(before + done, listing.total)

    for name, size in listing.sizes.items():
        if name in listing.large:
            fetch(listing.large[name], tell)
        hf_hub_download(listing.repo, name, revision=listing.commit)
        tell(size)
        before += size


def _set_main(listing: Listing) -> None:
    """Point the main branch to the files, now that they are all there."""
    ref = storage(listing.repo) / "refs/main"
    ref.parent.mkdir(parents=True, exist_ok=True)
    temporary = ref.with_name(f".main.{os.getpid()}")
    temporary.write_text(listing.commit, encoding="ascii")
    temporary.replace(ref)


@contextmanager
def _plain_faults(reference: Reference) -> Iterator[None]:
    """Everything that can go wrong on the way, as a sentence that says what to do."""
    again = f"`gemmary pull {reference}` goes on from there"
    try:
        yield
    except GatedRepoError:
        fault = _licence(reference)
    except RepositoryNotFoundError:
        fault = "the hub has no such model, or it is private; check the name, or log in: hf auth login"
    except HfHubHTTPError as error:
        fault = _answer(error.response.status_code)
    except (HTTPError, LocalEntryNotFoundError):
        fault = f"no connection to the hub; what has arrived stays, {again}"
    except OSError as error:
        full = error.errno == errno.ENOSPC
        fault = f"the disk is full; make room, {again}" if full else f"cannot be stored: {error}"
    else:
        return
    raise DownloadError(f"{reference.repo}: {fault}")


def _answer(code: int) -> str:
    if code == 401:
        return "the hub refuses your token; log in again: hf auth login"
    return f"the hub answers with error {code}; try again later"


def _licence(reference: Reference) -> str:
    """What to do about a model whose licence has to be accepted first."""
    steps = [f"open {constants.ENDPOINT}/{reference.repo}, sign in, read the licence and accept it"]
    if get_token() is None:
        steps.append(f"make a token that may read: {constants.ENDPOINT}/settings/tokens")
        steps.append("give it to this machine: hf auth login (or set HF_TOKEN)")
    steps.append(f"gemmary pull {reference}")
    told = "".join(f"\n  {number}. {step}" for number, step in enumerate(steps, 1))
    return f"its licence has to be accepted first, once:{told}"
