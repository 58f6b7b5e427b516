"""What a run is: the plan of `gemmary train`, and its TOML file.

Everything that a file can say wrong is said here, before any work: with the line, the key and what is
allowed. What only the files tell that a plan names (their vocabulary, their size) is for run.py.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..config import SIZES, Config
from ..weights.requantize import BODIES
from .data.plan import DataPlan, data_plan
from .loop import Plan
from .optimizer import Learning
from .sampling import READINGS, Distillation
from .spike import Spikes
from .tables import PlanError, Table, read_toml, settable

START = "nano"  # the size that own sizes change
ROW = 512
# What can be written: f32 in a folder only by itself, see export.py.
SAFETENSORS = ("bf16", "f32", "none")
GGUF = (*BODIES, "f32", "none")
# What may change while a run goes on: its length, its habits of saving, what is written at the end.
PASSING = (
    "train.steps", "train.epochs", "train.checkpoint_every", "train.keep", "train.patience",
    "train.recompute", "train.background", "train.shards", "save",
)  # fmt: skip

_SIZES = {name: kind for name, kind in settable(Config).items() if name not in ("name", "vocab")}
_LEAST = {
    "row": 2, "steps": 1, "rows": 1, "parts": 1, "workers": 1, "checkpoint_every": 1, "keep": 1,
    "patience": 1, "warmup": 0, "cooldown": 0, "seed": 0, "muon": 0, "decay": 0, "z": 0, "draws": 1,
    "shards": 1,
    **{name: 1 for name, kind in _SIZES.items() if kind == "int"},
}  # fmt: skip
_ABOVE_ZERO = ("epochs", "clip", "peak", "temperature", "query_scalar", "norm_eps")


@dataclass(frozen=True)
class TeacherPlan:
    """`model`: a folder, a GGUF file or the id of a model. `cache`: its targets are drawn once, to disk."""

    model: str
    how: Distillation
    cache: bool = False


@dataclass(frozen=True)
class Save:
    """What a run writes at its end: a folder for transformers, a GGUF file; formats of the matrices."""

    safetensors: str = SAFETENSORS[0]
    gguf: str = "q8_0"


@dataclass(frozen=True)
class RunPlan:
    """A run. Paths are as they were written: from the folder of the plan (`at`).

    config: the sizes of a new model; its vocab is that of the data. origin: a model to go on from instead.
    data: what is prepared, from files below `folder`; or `shards`, a folder of prepared data. row: tokens of
    a packed row. epochs: how often the data is seen, instead of `train.steps`, which then is 0.
    own_vocabulary: whether the file names one for the data.
    """

    path: Path
    config: Config | None
    origin: str | None
    data: DataPlan | None
    folder: str
    shards: str | None
    row: int
    epochs: float | None
    train: Plan
    teacher: TeacherPlan | None
    save: Save
    own_vocabulary: bool = False

    def at(self, name: str) -> Path:
        """Where a path of the plan is."""
        return self.path.parent / Path(name).expanduser()

    def settings(self) -> dict[str, Any]:
        """Every setting by its name in the file, defaults too, as JSON gives it back."""
        values: dict[str, Any] = {
            "model": {"from": self.origin} if self.config is None else _plain(asdict(self.config)),
            "data": {"shards": self.shards} if self.data is None else _plain(asdict(self.data)),
            "train": {"row": self.row, "epochs": self.epochs, **_train_settings(self.train)},
            "teacher": None if self.teacher is None else _plain(asdict(self.teacher)),
            "save": asdict(self.save),
        }
        values["data"].pop("digest", None)
        values["model"].pop("name", None)
        return values


def _train_settings(plan: Plan) -> dict[str, Any]:
    values = _plain(asdict(plan))
    del values["distill"]
    return {**values.pop("learning"), **values}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def read_run(path: Path) -> RunPlan:
    """The plan of a run in a TOML file. PlanError: the first thing in it that cannot be."""
    file = read_toml(path)
    file.only(["model", "data", "train", "teacher", "save"])
    for name in ("data", "train"):
        if name not in file:
            raise PlanError(f"{path}: has no [{name}]; see an example with `gemmary train --example`")
    origin, config = _model(file.table("model"))
    teacher = _teacher(file.table("teacher")) if "teacher" in file else None
    data, folder, shards = _data(file.table("data"), origin)
    if teacher is not None and data is not None and "vocabulary" in file.table("data"):
        _check_taught(file.table("data"), data)
    train = file.table("train")
    row, epochs, plan = _train(train, teacher)
    if config is not None and row > config.context:
        raise train.fault("row", f"is {row:,} tokens, more than the model's context of {config.context:,}")
    return RunPlan(
        path, config, origin, data, folder, shards, row, epochs, plan, teacher, _save(file.table("save")),
        own_vocabulary="vocabulary" in file.table("data"),
    )  # fmt: skip


def _model(table: Table) -> tuple[str | None, Config | None]:
    table.only(["size", "from", *_SIZES])
    if "from" in table:
        for key in table.values:
            if key != "from":
                raise table.fault(key, "cannot be set beside `from`: that model has its sizes")
        return table.read("from", "str"), None
    return None, _config(table)


def _config(table: Table) -> Config:
    """A size by name, with the sizes that the table changes."""
    size = table.read("size", "str") or START
    if size not in SIZES:
        raise table.fault("size", f"is {size!r}, but there are {', '.join(SIZES)}")
    own = {key: _bounded(table, key, kind) for key, kind in _SIZES.items() if key in table}
    if not own:
        return replace(SIZES[size], vision=None)
    if "layers" in own:
        own.setdefault("global_layers", None)  # every sixth
    if "head_dim" in own:
        own.setdefault("query_scalar", float(own["head_dim"]))
    layers = own.get("layers", SIZES[size].layers)
    if any(not 0 <= layer < layers for layer in own.get("global_layers") or ()):
        raise table.fault("global_layers", f"must be layers from 0 to {layers - 1}")
    return table.make(lambda **sizes: replace(SIZES[size], **sizes), name="own", vision=None, **own)


def _data(table: Table, origin: str | None) -> tuple[DataPlan | None, str, str | None]:
    table.only(["folder", "shards", *settable(DataPlan), "source"])
    folder = table.read("folder", "str") or "."
    if "shards" in table:
        for key in table.values:
            if key != "shards":
                raise table.fault(key, "cannot be set beside `shards`: they are prepared already")
        return None, folder, table.read("shards", "str")
    if "source" not in table:
        raise table.fault("source", "is missing: name files below [[data.source]], or `shards`")
    if origin is not None and "vocabulary" in table:
        raise table.fault("vocabulary", "cannot be set beside model.from: that model has its own")
    for source in table.tables("source"):
        if "picture" in source:
            raise source.fault("picture", "cannot be used here: `gemmary train` learns from text")
    return data_plan(table), folder, None


def _check_taught(table: Table, data: DataPlan) -> None:
    if isinstance(data.vocabulary, int):
        raise table.fault("vocabulary", "must be the teacher's: leave it out, and it is")


def _train(table: Table, teacher: TeacherPlan | None) -> tuple[int, float | None, Plan]:
    of_plan, of_learning = settable(Plan), settable(Learning)
    table.only(["row", "epochs", *of_plan, *of_learning, "spikes"])
    if ("steps" in table) == ("epochs" in table):
        raise table.fault("steps", "or train.epochs says how long to train: give one of them")
    values = {key: _bounded(table, key, kind) for key, kind in of_plan.items() if key in table}
    learning = {key: _bounded(table, key, kind) for key, kind in of_learning.items() if key in table}
    if any(not 0 <= beta < 1 for beta in learning.get("betas", ())):
        raise table.fault("betas", "must be two numbers from 0 to below 1")
    values.setdefault("steps", 0)
    if not 0 <= values.get("ema", 0) < 1:
        raise table.fault("ema", f"must be from 0 to below 1, not {values['ema']!r}")
    values |= {"spikes": _spikes(table.table("spikes")) if "spikes" in table else None}
    values |= {"learning": table.make(Learning, **learning), "distill": teacher.how if teacher else None}
    plan = table.make(Plan, **values)
    row = _bounded(table, "row", "int") if "row" in table else ROW
    return row, _bounded(table, "epochs", "float") if "epochs" in table else None, plan


def _spikes(table: Table) -> Spikes:
    table.only(settable(Spikes))
    return table.make(Spikes, **table.settings(Spikes))


def _teacher(table: Table) -> TeacherPlan:
    kinds = settable(Distillation)
    table.only(["model", "cache", *kinds])
    table.required("model")
    values = {key: _bounded(table, key, kind) for key, kind in kinds.items() if key in table}
    _one_of(table, "reading", READINGS)
    how = table.make(Distillation, **values)
    return TeacherPlan(table.read("model", "str"), how, bool(table.read("cache", "bool")))


def _save(table: Table) -> Save:
    table.only(settable(Save))
    _one_of(table, "safetensors", SAFETENSORS)
    _one_of(table, "gguf", GGUF)
    return Save(**table.settings(Save))


def _one_of(table: Table, key: str, known: tuple[str, ...]) -> None:
    if key in table and (value := table.read(key, "str")) not in known:
        raise table.fault(key, f"is {value!r}, but must be one of {', '.join(known)}")


def _bounded(table: Table, key: str, kind: str) -> Any:
    """The value of a key within the bounds of its name."""
    value = table.read(key, kind)
    if key in _ABOVE_ZERO and not value > 0:
        raise table.fault(key, f"must be above 0, not {value!r}")
    if key in _LEAST and value < _LEAST[key]:
        raise table.fault(key, f"must be {_LEAST[key]} or more, not {value!r}")
    return value


def longer(plan: RunPlan, steps: int) -> RunPlan:
    """The same plan with another number of steps, which is all that may change in a run."""
    return replace(plan, epochs=None, train=replace(plan.train, steps=steps))


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What lasts in a run and differs between two `settings`, in words: "train.peak was 0.01 and is 0.02"."""
    old, new = _flat(before), _flat(now)
    names = [name for name in dict.fromkeys([*old, *new]) if not name.startswith(PASSING)]
    return [
        f"{name} was {_said(old.get(name))} and is {_said(new.get(name))}"
        for name in names
        if (old.get(name) or None) != (new.get(name) or None)
    ]


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


def _said(value: Any) -> str:
    text = str(value)
    return "not set" if value is None else text if len(text) <= 60 else f"{text[:57]}..."
