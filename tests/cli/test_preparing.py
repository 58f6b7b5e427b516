"""The first start says that it compiles; later ones have nothing to say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gemmary.cli import terminal
from gemmary.cli.preparing import PREPARING, preparing
from gemmary.cli.terminal import Waiting
from gemmary.formats import codecache

from .tiny import write_tiny

ROOT = Path(__file__).parents[2]


def chat(model: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from gemmary.cli import main; main()", "chat", str(model)]
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    return subprocess.run(
        [*command, "-p", "hi", "--max-tokens", "2", "--seed", "1"], cwd=ROOT, env=environment,
        capture_output=True, text=True, timeout=115, stdin=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.mark.long
def test_one_line_at_the_first_start(tmp_path: Path) -> None:
    model = write_tiny(tmp_path / "tiny.gguf")
    first, second = (chat(model, tmp_path / "cache") for _ in range(2))
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert first.stderr.count(f"{PREPARING} ...\n") == 1
    assert PREPARING not in second.stderr
    assert first.stdout == second.stdout


@pytest.mark.long
def test_trouble_with_the_cache_is_a_plain_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = chat(write_tiny(tmp_path / "tiny.gguf"), tmp_path / "file")
    assert done.returncode == 0
    told = [line for line in done.stderr.splitlines() if not line.endswith(" ...")]
    assert len(told) == 1 and told[0].startswith("gemmary: compiled code cannot be kept in ")


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Waiting, "_said", set())


def compiling() -> None:
    """What the cache does when something is not in it."""
    for listener in codecache._listeners:
        listener()


def test_many_kernels_are_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "PATIENCE", 0.0)
    for text in ("Loading the model", "Thinking"):
        with Waiting(text) as wait, preparing(wait):
            for _ in range(5):
                compiling()
    assert capsys.readouterr().err.count(PREPARING) == 1


def test_nobody_listens_afterwards(capsys: pytest.CaptureFixture[str]) -> None:
    with Waiting("Thinking") as wait, preparing(wait):
        pass
    compiling()
    assert capsys.readouterr().err == ""
