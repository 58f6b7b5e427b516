"""Work in another process: answers, faults, and no process that stays behind."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from gemmary.engine.worker import Worker, WorkerError, measuring

ECHO = """
import json, os, signal, sys
print(json.dumps({"pid": os.getpid()}), flush=True)
for line in sys.stdin:
    task = json.loads(line)
    if task["do"] == "die":
        os.kill(os.getpid(), task["signal"])
    if task["do"] == "fail":
        raise ValueError("the reason")
    print(json.dumps({"error": "a sentence"} if task["do"] == "refuse" else task), flush=True)
"""


def echo() -> Worker:
    return Worker([sys.executable, "-c", ECHO], os.environ)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_tasks_and_answers() -> None:
    with echo() as worker:
        assert worker.ask("count", tokens=3) == {"do": "count", "tokens": 3}
        pid = worker.about["pid"]
    assert gone(pid)


@pytest.mark.parametrize(
    ("task", "told"),
    [
        ({"task": "die", "signal": 9}, "most likely because memory ran out"),
        ({"task": "fail"}, "ended early: ValueError: the reason"),
        ({"task": "refuse"}, "a sentence"),
    ],
)
def test_faults_are_sentences(task: dict[str, object], told: str) -> None:
    with echo() as worker, pytest.raises(WorkerError, match=told):
        worker.ask(**task)  # type: ignore[arg-type]


def test_what_cannot_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match=r"no\.gguf"):
        measuring({"path": str(tmp_path / "no.gguf")})


def test_a_folder_named_like_the_package_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gemmary").mkdir()
    (tmp_path / "gemmary" / "__init__.py").write_text("raise SystemExit('taken in')")
    monkeypatch.chdir(tmp_path)
    with measuring({"size": "nano", "body": "Q4_0", "table": "Q8_0", "threads": 1}) as worker:
        assert worker.ask("prefill", tokens=10)["tokens"] == 10
