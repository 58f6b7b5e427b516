"""What shall become of which files: the plan of a preparation, and its TOML file."""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ...errors import GemmaryError


class PlanError(GemmaryError, ValueError):
    """The plan cannot be followed; the message says which line of it and what to write instead."""


@dataclass(frozen=True)
class Source:
    """Files that are one source of the mixture. `paths` are patterns below the data folder (`books/*.txt`).

    text: fields of a JSONL record or columns of a Parquet file, joined by a newline. quality: a field with a
    number from 1e-6 to 1e6, the weight of the record within its source. picture: a field that names a
    picture's file, from the folder of the JSONL file. by_file: every file is a source of its own, called
    `name/stem of the file`.
    """

    name: str
    paths: tuple[str, ...]
    text: tuple[str, ...] = ("text",)
    quality: str | None = None
    picture: str | None = None
    by_file: bool = False


@dataclass(frozen=True)
class DataPlan:
    """Everything that the shards depend on, besides the files themselves.

    evaluation: patterns of files whose texts must not be trained on. vocabulary: the file of a tokenizer
    below the data folder (tokenizer.model), or the number of pieces of a new one, made from the mixture;
    vocabulary_characters: of how many characters of it. characters: how many the mixture holds; None: as
    many as there are. epochs: how often at most a source is repeated. density: how strongly documents of a
    crowded kind step back (0: not at all; 1: in proportion). near_duplicates: whether they are looked for,
    with datatrove. shortest, longest: bytes of a document; a longer
    one is cut between paragraphs. picture_tokens: what a picture becomes. shard_tokens: of one file.
    """

    sources: tuple[Source, ...]
    evaluation: tuple[str, ...] = ()
    vocabulary: int | str = 8192
    vocabulary_characters: int = 20_000_000
    characters: int | None = None
    epochs: float = 4.0
    density: float = 0.5
    near_duplicates: bool = True
    shortest: int = 40
    longest: int = 16_384
    picture_tokens: int = 256
    shard_tokens: int = 1 << 22
    seed: int = 0
    digest: str = field(init=False, default="")

    def __post_init__(self) -> None:
        names = [source.name for source in self.sources]
        if not names or len(set(names)) < len(names):
            raise PlanError("the plan needs at least one source, and a name of its own for each")
        checks = {
            "characters": self.characters is None or self.characters > 0,
            "epochs": math.isfinite(self.epochs) and self.epochs > 0,
            "density": 0 <= self.density <= 1,
            "shortest": 0 < self.shortest <= self.longest,
            "longest": self.longest >= 64,
            "picture_tokens": self.picture_tokens > 0,
            "shard_tokens": self.shard_tokens > 0,
            "vocabulary_characters": self.vocabulary_characters > 0,
        }
        wrong = [name for name, right in checks.items() if not right]
        if wrong:
            raise PlanError(f"the plan's {wrong[0]} is {getattr(self, wrong[0])!r}, which cannot be")
        content = json.dumps(asdict(self), sort_keys=True).encode()
        object.__setattr__(self, "digest", hashlib.sha256(content).hexdigest())


def read_plan(path: Path) -> DataPlan:
    """The plan in a TOML file: the fields of `DataPlan`, and one [[source]] for each `Source`. PlanError."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PlanError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # TOML, or UTF-8
        raise PlanError(f"{path}: is not TOML: {error}") from error
    given = table.pop("source", [])
    if not isinstance(given, list) or not all(isinstance(entry, dict) for entry in given):
        raise PlanError(f"{path}: sources are written as [[source]] with lines of name and paths")
    sources = tuple(Source(**_typed(path, Source, entry)) for entry in given)
    return DataPlan(**_typed(path, DataPlan, table), sources=sources)


_KINDS: Mapping[str, tuple[type, ...]] = {
    "str": (str,), "int": (int,), "float": (int, float), "bool": (bool,), "str | None": (str,),
    "int | None": (int,), "int | str": (int, str), "tuple[str, ...]": (list,),
}  # fmt: skip


def _typed(path: Path, kind: type[DataPlan] | type[Source], entry: dict[str, Any]) -> dict[str, Any]:
    """The values of a table, checked by the fields of `kind`."""
    known = {f.name: f for f in fields(kind) if f.init and str(f.type) in _KINDS}
    for name, value in entry.items():
        if name not in known:
            raise PlanError(f"{path}: {name!r} is not known; there are {', '.join(known)}")
        wanted = _KINDS[str(known[name].type)]
        fits = isinstance(value, wanted) and (isinstance(value, bool) == (wanted == (bool,)))
        if not fits or (isinstance(value, list) and not all(isinstance(item, str) for item in value)):
            raise PlanError(f"{path}: {name} must be {known[name].type}, not {value!r}")
    required = {"name", "paths"} if kind is Source else set()
    if missing := sorted(required - set(entry)):
        raise PlanError(f"{path}: a [[source]] has no {missing[0]}")
    return {name: tuple(v) if isinstance(v, list) else v for name, v in entry.items()}
