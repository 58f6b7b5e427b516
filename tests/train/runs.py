"""Short runs from files to files, and what they leave behind."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path

from gemmary.train.run import Result, Run
from gemmary.train.runplan import longer, read_run

MODEL = (
    "[model]\nwidth = 32\nlayers = 2\nheads = 2\nhead_dim = 16\nffn = 32\nwindow = 16\ncontext = 64\n"
    "global_layers = [1]\n"
)
DATA = (
    '[data]\nfolder = "files"\nnear_duplicates = false\nvocabulary = "tokenizer.model"\n'
    '[[data.source]]\nname = "many"\npaths = ["many.jsonl"]\n'
)
TRAIN = (
    "[train]\nsteps = 5\nrow = 32\nrows = 2\nfuse = false\nlow = false\nwarmup = 1\ncooldown = 2\n"
    "checkpoint_every = 2\n"
)
PLAN = MODEL + DATA + TRAIN


class Heard:
    """A voice that is written down."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.say = self.lines.append

    @contextmanager
    def doing(self, text: str):  # type: ignore[no-untyped-def]
        self.lines.append(f"{text} ...")
        yield lambda line: None

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def made(home: Path, text: str = PLAN, name: str = "out", steps: int | None = None) -> tuple[Run, Heard]:
    (home / "run.toml").write_text(text, encoding="utf-8")
    plan, heard = read_run(home / "run.toml"), Heard()
    return Run(plan if steps is None else longer(plan, steps), home / name, heard), heard


def run(home: Path, text: str = PLAN, name: str = "out", steps: int | None = None) -> Result:
    return made(home, text, name, steps)[0].run()


def log(home: Path, name: str = "out") -> list[tuple[int, str]]:
    lines = (home / name / "train/log.jsonl").read_text().splitlines()
    return [(record["step"], float(record["loss"]).hex()) for record in map(json.loads, lines)]


def stamps(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in folder.rglob("*") if path.is_file() and path.name not in ("lock", "run.json")
    }  # fmt: skip
