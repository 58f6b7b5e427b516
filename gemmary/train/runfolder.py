"""The folder of a run: whose it is, and what each stage has left there.

run.json        the settings it began with
data/           the prepared data, and data.json: what it was made of
targets/        a teacher's targets, where they are cached
train/          log and checkpoints
model/, model.gguf, and export.json: of which step they are
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import GemmaryError
from ..weights.atomic import replacing
from .checkpoint import newest
from .lock import locked
from .runplan import RunPlan, differences

FORMAT = "gemmary run 1"


class RunFolder:
    """`path` need not exist: `claimed` makes it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data, self.targets, self.train = path / "data", path / "targets", path / "train"
        self.folder, self.gguf = path / "model", path / "model.gguf"

    @property
    def begun(self) -> bool:
        """Whether there is a checkpoint."""
        return any(self.train.glob("step-*"))

    def trained(self, steps: int) -> bool:
        """Whether there is a checkpoint of so many steps, intact or not."""
        return newest(self.train) >= steps

    def check(self, plan: RunPlan) -> None:
        """GemmaryError: the folder belongs to another run, or to something else."""
        record = self.read("run")
        if record is None:
            if self.path.exists() and any(entry.name != "lock" for entry in self.path.iterdir()):
                raise GemmaryError(
                    f"{self.path} is there and is not a run's folder: name another one with --out"
                )
            return
        if record.get("format") != FORMAT or not isinstance(record.get("settings"), dict):
            raise GemmaryError(f"{self.path / 'run.json'} is damaged: name another folder with --out")
        if changed := differences(record["settings"], plan.settings()):
            more = f", and {len(changed) - 1} more" if len(changed) > 1 else ""
            raise GemmaryError(
                f"{self.path} is the folder of another run: {changed[0]}{more}; "
                "name another folder with --out, or write back what was there"
            )

    @contextmanager
    def claimed(self, plan: RunPlan) -> Iterator[None]:
        """The folder is this run's and nobody else's; what a killed process left unfinished is gone."""
        if self.path.exists() and not self.path.is_dir():
            raise GemmaryError(f"{self.path} is a file: name a folder with --out")
        self.check(plan)
        with locked(self.path):
            for left_over in self.path.glob(".*.part"):
                shutil.rmtree(left_over) if left_over.is_dir() else left_over.unlink()
            self.write("run", {"format": FORMAT, "settings": plan.settings()})
            yield

    def read(self, stage: str) -> dict[str, Any] | None:
        """What a stage recorded; None where there is nothing. GemmaryError: it is damaged."""
        path = self.path / f"{stage}.json"
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise GemmaryError(f"{path}: cannot be read: {error.strerror}") from error
        except ValueError:
            values = None
        if not isinstance(values, dict):
            raise GemmaryError(f"{path} is damaged: name another folder with --out")
        return values

    def write(self, stage: str, values: dict[str, Any]) -> None:
        """Record what a stage has done."""
        with replacing(self.path / f"{stage}.json") as file:
            file.write(json.dumps(values, indent=1).encode())
