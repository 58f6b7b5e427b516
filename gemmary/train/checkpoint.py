"""Checkpoints that survive a kill, a full disk and a bad sector: whole, verified, never pickled.

A checkpoint is a folder `step-00001000` with tensors.safetensors, state.json and manifest.json (SHA-256 of
the other two). It is written under a temporary name, forced to disk and renamed; the last good ones stay.
Many processes write a file of tensors each (sharded_checkpoint.py); one reads them all the same.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from ..errors import GemmaryError
from . import tensor_files
from .tensor_files import TensorFiles

STATE, MANIFEST = "state.json", "manifest.json"
PREFIX, UNFINISHED = "step-", ".unfinished-"
NAME = re.compile(PREFIX + r"\d{8,}")


class CheckpointError(GemmaryError):
    """A checkpoint could not be written, or none of those present is intact."""


@dataclass(frozen=True)
class Checkpoint:
    """What a run needs to go on: the step that comes next, tensors by name, and plain JSON values."""

    step: int
    tensors: dict[str, torch.Tensor]
    state: dict[str, Any]


def save(folder: Path, checkpoint: Checkpoint, keep: int = 2, every: int = 1) -> Path:
    """Write and commit a checkpoint; then drop all but it and the newest `keep` whose step `every` divides.

    CheckpointError: it cannot be written (disk full, ...); those that were there are untouched.
    """
    final = folder / f"{PREFIX}{checkpoint.step:08d}"
    try:
        unfinished = begin(final)
        tensor_files.write(unfinished / tensor_files.WHOLE, checkpoint.tensors)
        commit(final, checkpoint, {tensor_files.WHOLE: forced(unfinished / tensor_files.WHOLE)})
    except (OSError, SafetensorError) as error:
        raise not_written(final, error) from error
    prune(final, keep, every)
    return final


def begin(final: Path) -> Path:
    """An empty folder with a temporary name, where the files of checkpoint `final` are to be written."""
    final.parent.mkdir(parents=True, exist_ok=True)
    for left_over in final.parent.glob(f"{UNFINISHED}*"):
        shutil.rmtree(left_over)
    unfinished = temporary(final)
    unfinished.mkdir()
    return unfinished


def temporary(final: Path) -> Path:
    """Where a checkpoint is until it is whole."""
    return final.with_name(f"{UNFINISHED}{final.name}")


def commit(final: Path, checkpoint: Checkpoint, digests: dict[str, str]) -> None:
    """Add state and manifest to files of tensors that are on disk, and give the checkpoint its name."""
    unfinished = temporary(final)
    _write_json(unfinished / STATE, {"step": checkpoint.step, **checkpoint.state})
    _write_json(unfinished / MANIFEST, {**digests, STATE: forced(unfinished / STATE)})
    forced(unfinished / MANIFEST)
    _sync(unfinished)
    if final.exists():  # the same step again, after falling back from a damaged one
        shutil.rmtree(final)
    unfinished.rename(final)
    _sync(final.parent)


def prune(final: Path, keep: int, every: int) -> None:
    """Drop all checkpoints but `final` and the newest `keep` of steps that are multiples of `every`."""
    found = committed(final.parent)
    regular = [path for path in found if step_of(path) % every == 0]
    for path in found:
        if path not in (final, *regular[:keep]):
            shutil.rmtree(path)


def oldest(folder: Path) -> int:
    """The step of the oldest checkpoint; 0 where there is none."""
    return min((step_of(path) for path in committed(folder)), default=0)


def newest(folder: Path) -> int:
    """The step of the newest checkpoint, intact or not; 0 where there is none."""
    return max((step_of(path) for path in committed(folder)), default=0)


def drop_after(folder: Path, step: int) -> None:
    """Remove the checkpoints of later steps: the run goes another way from `step` on."""
    for path in committed(folder):
        if step_of(path) > step:
            shutil.rmtree(path)


def not_written(final: Path, error: object) -> CheckpointError:
    """What to raise where a checkpoint could not be written; its unfinished folder is removed."""
    shutil.rmtree(temporary(final), ignore_errors=True)
    return CheckpointError(
        f"{final}: cannot be written ({error}); free some disk space and go on from the last checkpoint"
    )


def forced(path: Path) -> str:
    """The SHA-256 of a file, after it was forced to disk."""
    _sync(path)
    return _sha256(path)


def load_latest(
    folder: Path, warn: Callable[[str], None] | None = None, upto: float = math.inf
) -> Checkpoint | None:
    """All of the checkpoint that `latest` finds."""
    path = latest(folder, warn, upto)
    if path is None:
        return None
    with TensorFiles(path) as files:
        tensors = {name: files.whole(name) for name in files.names}
    step, state = state_of(path)
    return Checkpoint(step, tensors, state)


def latest(folder: Path, warn: Callable[[str], None] | None = None, upto: float = math.inf) -> Path | None:
    """The newest intact checkpoint of step `upto` or before; None where there is none at all.

    A damaged one is reported through `warn` (stderr) and the one before it is tried. CheckpointError: all of
    them are damaged; to begin anew without a word would hide that.
    """
    report = warn or (lambda text: print(text, file=sys.stderr))
    found = committed(folder, upto)
    for path in found:
        problem = fault(path)
        if problem is None:
            return path
        report(f"{path}: {problem}; trying the checkpoint before it")
    if found:
        raise none_intact(folder)
    return None


def state_of(path: Path) -> tuple[int, dict[str, Any]]:
    """Step and plain values of a checkpoint."""
    state = json.loads((path / STATE).read_text(encoding="utf-8"))
    return state.pop("step"), state


def none_intact(folder: Path) -> CheckpointError:
    """What to raise where no checkpoint can be used."""
    return CheckpointError(f"{folder}: no checkpoint is intact; remove the folder to begin again")


def fault(path: Path, place: int = 0, places: int = 1) -> str | None:
    """What is wrong with a checkpoint; None if every byte is as it was written.

    Of `places` readers, this one looks at every file that is its own by `place`.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        if not isinstance(manifest, dict) or set(manifest) != {STATE, *_tensor_files(path)}:
            return "its manifest does not name its files"
        mine = list(manifest.items())[place::places]
        changed = [name for name, digest in mine if _sha256(path / name) != digest]
    except (OSError, ValueError) as error:
        return f"cannot be read ({error})"
    return f"{' and '.join(changed)} changed since it was written" if changed else None


def _tensor_files(path: Path) -> list[str]:
    return [file.name for file in path.glob(tensor_files.PATTERN)] or [tensor_files.WHOLE]


def committed(folder: Path, upto: float = math.inf) -> list[Path]:
    """Checkpoint folders of step `upto` or before, newest first."""
    found = sorted((path for path in folder.glob(f"{PREFIX}*") if NAME.fullmatch(path.name)), reverse=True)
    return [path for path in found if step_of(path) <= upto]


def step_of(path: Path) -> int:
    """The step of a checkpoint folder."""
    return int(path.name.removeprefix(PREFIX))


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=1), encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
