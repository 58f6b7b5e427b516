"""What shall become of which files: the plan of a preparation, and its TOML file."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..tables import PlanError, Table, read_toml, settable


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
    table = read_toml(path)
    table.only([*settable(DataPlan), "source"])
    return data_plan(table)


def data_plan(table: Table) -> DataPlan:
    """The plan in a table; keys that are not its own are left alone. PlanError."""
    sources = tuple(_source(entry) for entry in table.tables("source"))
    return table.make(DataPlan, **table.settings(DataPlan), sources=sources)


def _source(entry: Table) -> Source:
    entry.only(settable(Source))
    for key in ("name", "paths"):
        entry.required(key)
    return entry.make(Source, **entry.settings(Source))
