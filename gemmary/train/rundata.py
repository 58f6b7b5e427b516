"""The data of a run: prepared once, from files; or prepared before, in a folder of shards."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..inputs.tokenizer import Tokenizer
from .data.plan import DataPlan
from .data.prepare import TOKENIZER, prepare
from .data.reasons import Reason
from .data.rows import PackedShards
from .data.shards import ShardError, Shards, open_shards
from .data.sources import source_files
from .runfolder import RunFolder
from .runplan import RunPlan
from .tables import PlanError
from .voice import Voice


def run_data(plan: RunPlan, folder: RunFolder, given: bytes | None, voice: Voice) -> tuple[Shards, bytes]:
    """The shards of a run, and its vocabulary as a SentencePiece model.

    given: the vocabulary that the data must have, where a model brings one. GemmaryError: no files, nothing
    left of them, a full disk, another vocabulary, damaged shards.
    """
    if plan.data is None:
        where = plan.at(plan.shards or "")
        return opened(where, given, f"prepare them anew, or correct data.shards in {plan.path}")
    _prepare(plan, plan.data, folder, given, voice)
    return opened(folder.data, None, f"remove {folder.data}, and the same command makes it again")


def opened(where: Path, given: bytes | None, advice: str) -> tuple[Shards, bytes]:
    """Shards of text, and their vocabulary: `given`, or the one beside them. ShardError, with `advice`."""
    if given is None:
        try:
            given = (where / TOKENIZER).read_bytes()
        except OSError as error:
            raise ShardError(f"{where / TOKENIZER}: cannot be read: {error.strerror}; {advice}") from error
    try:
        shards = open_shards(where, Tokenizer.from_model(given))
    except ShardError as error:
        raise ShardError(f"{error} ({advice})") from error
    if any(len(shard.pictures) for shard in shards.shards):
        raise ShardError(f"{where}: has pictures, and `gemmary train` learns from text: prepare text alone")
    return shards, given


def packed_rows(shards: Shards, row: int) -> PackedShards:
    """The shards as rows to train on. ShardError: there is not one."""
    packed = PackedShards(shards, row)
    if not len(packed):
        raise ShardError(f"{shards.folder}: holds no document, so there is nothing to train on")
    return packed


# Preparation


def _prepare(plan: RunPlan, data: DataPlan, folder: RunFolder, given: bytes | None, voice: Voice) -> None:
    """Fill the folder's data/, unless it is there and made of the same."""
    before = folder.read("data") if folder.data.exists() else None
    try:
        now = _inputs(plan, data, given)
    except PlanError:
        if before is None:
            raise
        voice.say(f"Data: the files it was made of are gone; {folder.data} is whole and is used.")
        return
    if before == now:
        voice.say(f"Data: as prepared in {folder.data}")
        return
    if before is not None and folder.begun:
        voice.say(
            f"Data: {_changed(before, now)} since training began; this run goes on with what is in "
            f"{folder.data}. For the new files begin a run in another folder (--out)."
        )
        return
    shutil.rmtree(folder.data, ignore_errors=True)
    if given is not None:
        (folder.path / TOKENIZER).write_bytes(given)
        data = replace(data, vocabulary=str((folder.path / TOKENIZER).absolute()))
    with voice.doing("Preparing the data") as doing:
        prepare(data, plan.at(plan.folder), folder.data, tell=lambda line: doing(f"Data: {line.lower()}"))
    folder.write("data", now)
    voice.say(f"Data: prepared in {folder.data}")


def _inputs(plan: RunPlan, data: DataPlan, given: bytes | None) -> dict[str, Any]:
    """What the data is made of: the plan, a vocabulary, files by size and time. PlanError: no files."""
    base = plan.at(plan.folder)
    files = {path.relative_to(base).as_posix(): path.stat() for path in data_files(data, base)}
    return {
        "plan": data.digest,
        "vocabulary": None if given is None else hashlib.sha256(given).hexdigest(),
        "files": {name: [stat.st_size, stat.st_mtime_ns] for name, stat in sorted(files.items())},
    }


def data_files(data: DataPlan, base: Path) -> Iterator[Path]:
    """Every file that a preparation reads, some twice. PlanError: a pattern without files."""
    check_folder(base)
    for source in data.sources:
        yield from (path for _, path in source_files(source, base))
    for pattern in data.evaluation:
        yield from base.glob(pattern)
    if isinstance(data.vocabulary, str) and (base / data.vocabulary).is_file():
        yield base / data.vocabulary


def check_folder(base: Path) -> None:
    """PlanError: there is no folder where the plan's paths begin."""
    if not base.is_dir():
        raise PlanError(f"data.folder: there is no folder {base}")


def _changed(before: dict[str, Any], now: dict[str, Any]) -> str:
    old, new = before.get("files", {}), now["files"]
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    if not names:
        return "the vocabulary changed"
    return (
        f"{names[0]} changed" if len(names) == 1 else f"{names[0]} and {len(names) - 1} other files changed"
    )


def left_out(folder: Path) -> str | None:
    """What a preparation did not keep, in a sentence; None where it kept all, or made no report."""
    try:
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        dropped = {Reason[name]: int(count) for name, count in report["dropped"].items()}
        read = int(report["totals"]["read"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if not dropped:
        return None
    reasons = ", ".join(f"{count:,} x {reason}" for reason, count in dropped.items())
    return f"Left out: {reasons}; {read:,} texts were read. {folder / 'report.html'} shows which."
