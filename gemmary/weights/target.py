"""Where a converted model goes: looked at before the work begins. `.gguf` is a file, all else a folder."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ..errors import GemmaryError
from .tokenizerfiles import FILES

OURS = {*FILES, "config.json", "model.safetensors"}  # what a folder that convert wrote may hold


def is_file(target: Path) -> bool:
    """Whether the name asks for a GGUF file."""
    return target.suffix.lower() == ".gguf"


def check_target(source: Path, target: Path, force: bool) -> None:
    """GemmaryError when `target` must not, or cannot, be written."""
    if os.path.abspath(source) == os.path.abspath(target) or (
        target.exists() and os.path.samefile(source, target)
    ):
        raise GemmaryError(f"{target}: is the source itself: give the result another name")
    if target.suffix == ".safetensors":
        raise GemmaryError(f"{target}: such a model is a folder, config and tokenizer too: name a folder")
    if not target.parent.is_dir():
        raise GemmaryError(f"{target}: there is no folder {target.parent}: make it first")
    if target.is_symlink() or target.exists():
        _check_replaceable(target, force)


def _check_replaceable(target: Path, force: bool) -> None:
    folder = target.is_dir()
    if folder and not any(target.iterdir()) and not is_file(target):
        return
    if not force:
        raise GemmaryError(f"{target}: is there already: give another name, or say --force to replace it")
    if folder == is_file(target) or (folder and target.is_symlink()):
        raise GemmaryError(
            f"{target}: is a {'folder' if folder else 'file'}, which the result cannot replace: "
            "give another name"
        )
    if folder and (others := {entry.name for entry in target.iterdir()} - OURS):
        raise GemmaryError(
            f"{target}: holds more than a model that convert wrote, such as {min(others)!r}: "
            "give another name, or delete the folder yourself"
        )


def check_space(nbytes: int, target: Path) -> None:
    """GemmaryError when the disk has no room for tensors of `nbytes` bytes."""
    free = shutil.disk_usage(target.parent).free
    if nbytes > free:
        raise GemmaryError(
            f"{target}: needs {nbytes / 1e9:.2f} GB, and its disk has {free / 1e9:.2f} GB left"
        )
