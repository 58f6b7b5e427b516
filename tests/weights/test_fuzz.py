"""Spoilt files by the hundred (GEMMARY_FUZZ sets how many), each read under limits in a child process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHARES = {"gguf": 0.4, "mmproj": 0.2, "safetensors": 0.3, "index": 0.1, "config": 0.2}
BATCH = 500
SEED = 1


def run(kind: str, start: int, count: int) -> tuple[int, str]:
    """How many files were accepted, and what went wrong ("" if nothing)."""
    command = [sys.executable, "-m", "tests.weights.fuzz_worker", kind, str(SEED), str(start), str(count)]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60 + count / 5)
    except subprocess.TimeoutExpired:
        return 0, f"{' '.join(command)}: the process hangs"
    *indices, last = done.stdout.split("\n")[:-1] or [""]
    if done.returncode == 0 and last.startswith("accepted "):
        return int(last.split()[1]), ""
    culprit = last or (indices or ["start"])[-1]
    repeat = f"python -m tests.weights.fuzz_worker {kind} {SEED} {culprit} 1"
    return 0, f"{repeat}\nexit {done.returncode}\n{done.stderr[-2000:]}"


def fuzz(kind: str, total: int) -> None:
    accepted = 0
    for start in range(0, total, BATCH):
        some, fault = run(kind, start, min(BATCH, total - start))
        assert not fault, fault
        accepted += some
    # Files that nothing accepts would test one half of the promise only.
    assert 0.01 * total < accepted < 0.8 * total


@pytest.mark.parametrize("kind", SHARES)
def test_spoilt_files_are_refused_or_read_right(kind: str) -> None:
    fuzz(kind, round(int(os.environ.get("GEMMARY_FUZZ", "500")) * SHARES[kind]))


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", SHARES)
def test_many_spoilt_files(kind: str) -> None:
    fuzz(kind, round(int(os.environ.get("GEMMARY_FUZZ", "20000")) * SHARES[kind]))


def test_the_harness_catches_a_reader_without_bounds() -> None:
    """Its control: the 43 bytes that make the `gguf` package loop 2^63 times."""
    _, fault = run("baseline", 0, 1)
    assert "Slow" in fault or "MemoryError" in fault
