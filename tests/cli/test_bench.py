"""`gemmary bench`: what it prints where, what it leaves out and why, and how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from gemmary import cli
from gemmary.cli import report
from gemmary.engine import peer, survey
from gemmary.engine.worker import WorkerError

from .terminals import ROOT
from .test_verbs import GEMMARY

Run = Callable[..., tuple[int, str, str]]
HOST = report.Machine("Test CPU", 2, 16_000_000_000, "test-path", 40e9)
SPEEDS = (
    "prefill_tokens_per_second", "decode_tokens_per_second", "batch_of_8_tokens_per_second", "load_seconds",
    "peak_memory_bytes", "page_bytes",
)  # fmt: skip


class Fake:
    """A worker that did everything in no time: `speed` tokens a second. It keeps the jobs that it got."""

    jobs: list[dict[str, Any]]

    def __init__(self, job: dict[str, Any], speed: float) -> None:
        self.about = {"load_seconds": 0.5, "build": "fake"}
        self.speed = speed
        self.jobs.append(job)

    def ask(self, task: str, limit: float = 0.0, tokens: int = 1, **_: int) -> dict[str, float]:
        if task == "memory":
            return {"peak_bytes": 10**9, "page_bytes": 10**6}
        return {"tokens": tokens, "seconds": tokens / self.speed}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[Fake]:
    """No real worker: ours says 80 tokens a second, llama.cpp 40."""
    Fake.jobs = []

    @contextmanager
    def ours(job: dict[str, Any]) -> Iterator[Fake]:
        yield Fake(job, 80.0)

    @contextmanager
    def theirs(python: str, job: dict[str, Any]) -> Iterator[Fake]:
        assert Path(job["path"]).exists()
        yield Fake(job, 40.0)

    monkeypatch.setattr(survey, "measuring", ours)
    monkeypatch.setattr(peer, "llama", theirs)
    monkeypatch.setattr(peer, "find", lambda: "python")
    return Fake


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`gemmary bench words...` in this process: exit code, stdout, stderr."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(report, "machine", lambda threads: HOST)
    monkeypatch.setattr(survey, "free_memory", lambda: 10**12)

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["gemmary", "bench", *words])
        with pytest.raises(SystemExit) as end:
            cli.main()
        told = capsys.readouterr()
        return int(end.value.code or 0), told.out, told.err

    return run


def test_a_real_run_measures_everything(run: Run) -> None:
    code, out, err = run("--size", "nano", "--json", "--budget", "1", "--threads", "1")
    assert code == 0 and "nano: loading" in err
    found = json.loads(out)
    (row,) = found["rows"]
    assert (row["model"], row["layout"], row["random_weights"]) == ("nano", "Q4_0, table Q8_0", True)
    assert all(row[key] > 0 for key in SPEEDS) and row["left_out"] is None
    assert row["peak_memory_bytes"] > row["weight_bytes"] > 4_000_000
    read = row["decode_tokens_per_second"] * row["bytes_per_token"]
    assert row["read_bytes_per_second"] == pytest.approx(read)
    assert row["bandwidth_share"] == pytest.approx(read / HOST.bandwidth)
    assert found["machine"] == {
        "cpu": "Test CPU", "threads": 2, "memory_bytes": 16_000_000_000, "kernels": "test-path",
        "read_bytes_per_second": 40e9,
    }  # fmt: skip
    assert found["interrupted"] is False


def test_the_bundled_model_is_measured_as_a_file(run: Run) -> None:
    code, out, _ = run("nano", "--budget", "1", "--threads", "1")
    assert code == 0
    assert out.startswith("Test CPU, 2 threads, 16.00 GB of memory read at 40.0 GB/s, test-path kernels\n")
    assert re.search(r"^ *nano( +[\d.]+){4} +0\.\d\d +0\.01 +0\.00 +[\d.]+ \(\d+ %\)", out, re.MULTILINE)
    assert "nano (Q8_0): about" in out and "gemmary pull" not in out


def test_every_size_is_measured_smallest_first_and_explained(run: Run, fake: type[Fake]) -> None:
    code, out, _ = run("--table", "f16")
    assert code == 0
    assert [job["size"] for job in fake.jobs] == ["270m", "1b", "4b", "12b", "27b"]
    assert {(job["body"], job["table"]) for job in fake.jobs} == {("Q4_0", "F16")}
    plain = " ".join(out.split())
    # 80 tokens are 60 words; Google's files have the sizes that the hub shows
    assert "1b (Q4_0, table F16): about 60.0 words a second; a reply of 200 words takes 3.33 s." in plain
    assert "google/gemma-3-1b-it-qat-q4_0-gguf, is 997.0 MB: gemmary pull 1b" in plain
    assert "Google's 16-bit file, google/gemma-3-270m-it, is 536.2 MB" in plain


@pytest.mark.long
def test_keys_and_values_in_another_format(run: Run, fake: type[Fake]) -> None:
    """Ours only: llama.cpp keeps its own."""
    code, out, _ = run("--size", "1b", "--cache", "int8", "--json", "--against", "llama.cpp")
    assert code == 0
    assert [job.get("cache") for job in fake.jobs] == ["int8", None]
    assert json.loads(out)["rows"][0]["layout"] == "Q4_0, table Q8_0, cache int8"
    code, out, _ = run("nano", "--cache", "bf16")
    assert code == 0 and "nano (Q8_0, cache bf16): about" in out


def test_what_does_not_fit_is_left_out_with_a_reason(
    run: Run, fake: type[Fake], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(survey, "free_memory", lambda: 2_000_000_000)
    code, out, _ = run("--json")
    rows = {row["model"]: row for row in json.loads(out)["rows"]}
    assert code == 0 and [job["size"] for job in fake.jobs] == ["270m", "1b"]
    assert re.fullmatch(r"needs 1[789]\.\d\d GB of memory, and 2\.00 GB are free", rows["27b"]["left_out"])
    assert rows["27b"]["decode_tokens_per_second"] is None
    monkeypatch.setattr(survey, "free_memory", lambda: 1)
    code, out, _ = run()
    assert code == 1 and "270m: needs" in out


def test_a_worker_that_dies_is_one_line(run: Run, fake: type[Fake], monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(self: Fake, task: str, **_: Any) -> dict[str, float]:
        raise WorkerError("the system stopped it")

    monkeypatch.setattr(fake, "ask", ask)
    code, out, err = run("--size", "1b")
    assert code == 1 and "1b: the system stopped it" in out and "Traceback" not in out + err


def test_sizes_beyond_the_time_are_left_out_unless_named(
    run: Run, fake: type[Fake], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 100_000, 10))
    monkeypatch.setattr(survey.time, "perf_counter", lambda: float(next(clock)))
    _, out, _ = run("--json", "--budget", "60")
    reasons = {row["model"]: row["left_out"] for row in json.loads(out)["rows"]}
    assert reasons["270m"] is None
    assert reasons["27b"].endswith("gemmary bench --size 27b")
    code, out, _ = run("--json", "--budget", "1", "--size", "27b", "--size", "12b")
    assert code == 0 and all(row["decode_tokens_per_second"] for row in json.loads(out)["rows"])


def test_llama_cpp_takes_turns_on_the_same_file(run: Run, fake: type[Fake]) -> None:
    code, out, err = run("--size", "nano", "--against", "llama.cpp", "--json")
    (row,) = json.loads(out)["rows"]
    assert code == 0 and "nano: writing a temporary file of 0.02 GB" in err
    ours, theirs = fake.jobs
    assert ours["path"] == theirs["path"] and not Path(ours["path"]).exists()
    assert row["ratio"] == {"prefill": 2.0, "decode": 2.0, "batch": 2.0}
    assert row["llama.cpp"]["decode_tokens_per_second"] == 40 and row["llama.cpp"]["build"] == "fake"
    _, out, _ = run("--size", "nano", "--against", "llama.cpp")
    assert re.search(r"ratio +2\.00x +2\.00x +2\.00x", out) and "llama.cpp was built with fake" in out


def test_without_llama_cpp_it_refuses_at_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(peer.VARIABLE, "/no/such/python")
    code, out, err = run("--size", "nano", "--against", "llama.cpp")
    assert (code, out) == (1, "")
    assert err.startswith("gemmary: llama.cpp is not in /no/such/python") and err.count("\n") == 1


def test_a_model_that_is_not_here_can_be_measured_all_the_same(run: Run) -> None:
    code, out, err = run("google/gemma-3-4b-it")
    assert (code, out) == (1, "")
    assert "gemmary pull google/gemma-3-4b-it" in err and "`gemmary bench --size 4b`" in err


@pytest.mark.parametrize(
    "words",
    [
        ("--size", "5b"),
        ("nano", "--size", "1b"),
        ("--layout", "q3"),
        ("--table", "q4_0"),
        ("--against", "vllm"),
        ("--budget", "0"),
    ],
)
def test_wrong_calls(run: Run, words: tuple[str, ...]) -> None:
    code, out, err = run(*words)
    assert (code, out) == (2, "") and "Error: " in err


@pytest.mark.long
def test_ctrl_c_shows_what_was_measured_and_leaves_no_process() -> None:
    words = ("bench", "--size", "nano", "--size", "nano", "--threads", "1", "--json")
    with subprocess.Popen(
        [sys.executable, "-c", GEMMARY, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as bench:  # fmt: skip
        assert bench.stdout is not None and bench.stderr is not None
        for _ in range(2):
            while "nano: loading" not in bench.stderr.readline():
                pass
        children = _children(bench.pid)
        bench.send_signal(signal.SIGINT)
        out, err = bench.stdout.read(), bench.stderr.read()
        assert bench.wait() == 130
    found = json.loads(out)
    assert found["interrupted"] is True and "Traceback" not in err and "Stopped" in err
    assert found["rows"][0]["batch_of_8_tokens_per_second"] > 0
    assert found["rows"][1]["batch_of_8_tokens_per_second"] is None
    _wait_until_gone(children)


def _wait_until_gone(children: list[str]) -> None:
    """A worker that was just being started sees that its input has ended once it has loaded."""
    late = time.monotonic() + 60
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < late, "a worker was left behind"
        time.sleep(0.1)


def _children(pid: int) -> list[str]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return path.read_text().split() if path.exists() else []
