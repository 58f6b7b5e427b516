"""Checkpoints that survive a kill, a full disk and a bad sector: whole, verified, never pickled.

A checkpoint is a folder `step-00001000` with tensors.safetensors, state.json and manifest.json (SHA-256 of
the other two). It is written under a temporary name, forced to disk and renamed; the last good ones stay.
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
from safetensors.torch import load_file, save_file

from ..errors import GemmaryError

TENSORS, STATE, MANIFEST = "tensors.safetensors", "state.json", "manifest.json"
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
    unfinished = folder / f"{UNFINISHED}{final.name}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left_over in folder.glob(f"{UNFINISHED}*"):
            shutil.rmtree(left_over)
        _write(unfinished, checkpoint)
        if final.exists():  # the same step again, after falling back from a damaged one
            shutil.rmtree(final)
        unfinished.rename(final)
        _sync(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise CheckpointError(
            f"{final}: cannot be written ({error}); free some disk space and go on from the last checkpoint"
        ) from error
    regular = [path for path in _committed(folder) if _step(path) % every == 0]
    for path in _committed(folder):
        if path not in (final, *regular[:keep]):
            shutil.rmtree(path)
    return final


def oldest(folder: Path) -> int:
    """The step of the oldest checkpoint; 0 where there is none."""
    return min((_step(path) for path in _committed(folder)), default=0)


def drop_after(folder: Path, step: int) -> None:
    """Remove the checkpoints of later steps: the run goes another way from `step` on."""
    for path in _committed(folder):
        if _step(path) > step:
            shutil.rmtree(path)


def _write(target: Path, checkpoint: Checkpoint) -> None:
    target.mkdir()
    save_file(
        {name: t.detach().cpu().contiguous() for name, t in checkpoint.tensors.items()}, target / TENSORS
    )
    _write_json(target / STATE, {"step": checkpoint.step, **checkpoint.state})
    _write_json(target / MANIFEST, {name: _sha256(target / name) for name in (TENSORS, STATE)})
    for path in (target / TENSORS, target / STATE, target / MANIFEST, target):
        _sync(path)


def load_latest(
    folder: Path, warn: Callable[[str], None] | None = None, upto: float = math.inf
) -> Checkpoint | None:
    """The newest intact checkpoint of step `upto` or before; None where there is none at all.

    A damaged one is reported through `warn` (stderr) and the one before it is tried. CheckpointError: all of
    them are damaged; to begin anew without a word would hide that.
    """
    report = warn or (lambda text: print(text, file=sys.stderr))
    found = [path for path in _committed(folder) if _step(path) <= upto]
    for path in found:
        fault = _fault(path)
        if fault is None:
            state = json.loads((path / STATE).read_text(encoding="utf-8"))
            return Checkpoint(state.pop("step"), load_file(path / TENSORS), state)
        report(f"{path}: {fault}; trying the checkpoint before it")
    if found:
        raise CheckpointError(f"{folder}: no checkpoint is intact; remove the folder to begin again")
    return None


def _fault(path: Path) -> str | None:
    """What is wrong with a checkpoint; None if every byte is as it was written."""
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        if not isinstance(manifest, dict) or set(manifest) != {TENSORS, STATE}:
            return "its manifest does not name its files"
        changed = [name for name, digest in manifest.items() if _sha256(path / name) != digest]
    except (OSError, ValueError) as error:
        return f"cannot be read ({error})"
    return f"{' and '.join(changed)} changed since it was written" if changed else None


def _committed(folder: Path) -> list[Path]:
    """Checkpoint folders, newest first."""
    return sorted((path for path in folder.glob(f"{PREFIX}*") if NAME.fullmatch(path.name)), reverse=True)


def _step(path: Path) -> int:
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
