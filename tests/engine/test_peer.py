"""llama.cpp beside us: found or refused, on a file of random weights, in its own environment."""

from __future__ import annotations

import os
import shutil
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from gemmary.config import NANO
from gemmary.engine import peer
from gemmary.errors import GemmaryError
from gemmary.weights.synthetic import Layout

LAYOUT = Layout("Q4_0", "Q8_0")


@pytest.mark.parametrize("named", ["/no/such/python", "false"])
def test_without_llama_cpp_there_is_one_sentence(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(peer.VARIABLE, shutil.which(named) or named)
    with pytest.raises(GemmaryError, match="pip install llama-cpp-python there") as fault:
        peer.find()
    assert peer.VARIABLE in str(fault.value) and "\n" not in str(fault.value)


def test_our_thread_settings_do_not_reach_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    monkeypatch.setenv("OTHER", "stays")
    found = peer.environment()
    assert "OMP_WAIT_POLICY" not in found and found["OTHER"] == "stays"


def test_the_file_is_temporary() -> None:
    with peer.random_file(NANO, LAYOUT) as path:
        assert path.stat().st_size <= peer.file_bytes(NANO, LAYOUT)
    assert not path.parent.exists()


def test_a_full_disk_is_said_before_anything_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, 1))
    with pytest.raises(GemmaryError, match="TMPDIR"), peer.random_file(NANO, LAYOUT):
        pass


@pytest.mark.skipif(
    peer.VARIABLE not in os.environ, reason=f"name a Python with llama_cpp in {peer.VARIABLE}"
)
def test_llama_cpp_does_every_task(tmp_path: Path) -> None:
    with (
        peer.random_file(NANO, LAYOUT) as path,
        peer.llama(peer.find(), {"path": str(path), "threads": 1}) as worker,
    ):
        assert worker.about["version"] and "CPU" in worker.about["build"]
        assert worker.ask("warm") == {}
        assert worker.ask("prefill", tokens=600, limit=1.0)["tokens"] == 600
        assert worker.ask("decode", tokens=3, limit=1.0)["seconds"] > 0
        assert worker.ask("extend", tokens=610)["tokens"] == 7
        assert worker.ask("batch", streams=8, tokens=2, past=5, limit=1.0)["tokens"] == 16
        assert worker.ask("memory")["peak_bytes"] > 1e6 or sys.platform == "darwin"
