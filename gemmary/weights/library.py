"""The Gemma 3 models in the shared cache: what is there, how big, and away with it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import GemmaryError
from .gguf import read_gguf
from .hub import Reference, cache, folder_files, is_mmproj, is_model_gguf, names_in, snapshot, storage
from .strictjson import read_object

CONFIG_BYTES = 1 << 20
ARCHITECTURES = ("gemma3", "gemma3_text")

_FORMAT = re.compile(r"(?<![a-z0-9])(i?q\d_[a-z0-9_]+|bf16|f16|f32)(?![a-z0-9])")


@dataclass(frozen=True)
class CachedModel:
    """A model in the cache. `name` is what to type, `format` as in the file's name; no `path`: unfinished."""

    name: str
    path: Path | None
    bytes: int
    format: str


def cached_models() -> list[CachedModel]:
    """Every Gemma 3 in the cache, by name. Files that cannot be read are left out."""
    homes = sorted(cache().glob("models--*--*"))
    return [model for home in homes for model in _models(home.name[8:].replace("--", "/", 1), home)]


def sees(path: Path) -> bool:
    """Whether a model of the cache, a GGUF file or a folder, has its picture half there."""
    if path.is_dir():
        with suppress(GemmaryError):
            return isinstance(read_object(path / "config.json", CONFIG_BYTES).get("vision_config"), dict)
        return False
    return any(is_mmproj(other.name) for other in path.parent.glob("*.gguf"))


def size(repo: str) -> int:
    """Bytes that a repository takes in the cache; 0 when it is not there."""
    return _bytes([*(storage(repo) / "blobs").glob("*")])


def remove(repo: str) -> None:
    """Delete a repository from the cache, all of its revisions and unfinished files."""
    from huggingface_hub import scan_cache_dir

    home = storage(repo)
    if not home.is_dir():
        raise GemmaryError(f"{repo}: is not in the cache; `gemmary list` shows what is")
    found = scan_cache_dir(cache())
    # Duplicated repositories share commits: nothing but this one may be in sight of delete_revisions.
    this = frozenset(info for info in found.repos if info.repo_path == home.resolve())
    commits = [revision.commit_hash for info in this for revision in info.revisions]
    replace(found, repos=this).delete_revisions(*commits).execute()
    shutil.rmtree(home, ignore_errors=True)
    if home.exists():
        raise GemmaryError(f"{home}: cannot be deleted; do you own it?")


def _models(repo: str, home: Path) -> list[CachedModel]:
    folder = snapshot(repo)
    found = [*_gguf_models(repo, folder), *_folder_models(repo, folder)] if folder else []
    if not found and "gemma-3" in repo.lower() and any((home / "blobs").glob("*.incomplete")):
        return [CachedModel(repo, None, size(repo), "unfinished")]
    return found


def _gguf_models(repo: str, folder: Path) -> Iterator[CachedModel]:
    names = [name for name in names_in(folder) if is_model_gguf(name)]
    for name in names:
        if _is_gemma(folder / name):
            form = _format(name)
            named = repo if len(names) == 1 else str(Reference(repo, form))
            yield CachedModel(named, folder / name, _bytes([folder / name]), (form or "gguf").upper())


def _folder_models(repo: str, folder: Path) -> Iterator[CachedModel]:
    files = folder_files(names_in(folder))
    if files and _is_gemma(folder):
        # An official id by itself means its 4-bit file.
        quant = None if Reference(repo).preferred == Reference(repo) else "bf16"
        total = _bytes([folder / name for name in files])
        yield CachedModel(str(Reference(repo, quant)), folder, total, "safetensors")


def _is_gemma(path: Path) -> bool:
    """Whether the file's header, or the folder's config, says Gemma 3."""
    with suppress(GemmaryError):
        if path.is_dir():
            return read_object(path / "config.json", CONFIG_BYTES).get("model_type") in ARCHITECTURES
        return read_gguf(path).metadata.get("general.architecture") in ARCHITECTURES
    return False


def _format(name: str) -> str | None:
    """The number format in a file's name."""
    found = _FORMAT.search(name.lower())
    return found[1] if found else None


def _bytes(paths: list[Path]) -> int:
    return sum(path.stat().st_size for path in paths if path.is_file())
