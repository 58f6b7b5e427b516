"""`gemmary train`, as a shell sees it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gemmary import cli
from gemmary.train.loop import Trainer
from gemmary.train.runplan import read_run
from tests.train.data.toyfiles import write
from tests.train.runs import PLAN

from .terminals import ROOT, Terminal

Call = Callable[..., tuple[int, str, str]]
RUN = "import sys; sys.argv[0] = 'gemmary'; from gemmary.cli import main; main()"


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """`gemmary words...` in this process and a folder with files and run.toml: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "files")
    (tmp_path / "run.toml").write_text(PLAN)

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["gemmary", *words])
        with pytest.raises(SystemExit) as end:
            cli.main()
        told = capsys.readouterr()
        return int(end.value.code or 0), told.out, told.err

    return call


def test_an_example_is_printed_and_can_be_followed(call: Call, tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("Something to learn from. " * 99)
    code, out, err = call("train", "--example")
    assert (code, err) == (0, "")
    (tmp_path / "run.toml").write_text(out)
    assert read_run(tmp_path / "run.toml").data.sources[0].paths == ("*.md", "*/*.txt", "*/*.jsonl")  # type: ignore[union-attr]


def test_a_dry_run_says_what_it_takes_and_writes_nothing(call: Call, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    code, out, err = call("train", "run.toml", "--dry-run", "--steps", "9")
    assert (code, out) == (0, "") and sorted(tmp_path.rglob("*")) == before
    for line in (
        "model   31,840 parameters, 19,200 of them in the table", "data    about ", "memory  about ",
        "steps   9 of 128 tokens each: about 0.18 times the data", "disk    up to ",
    ):  # fmt: skip
        assert line in err


def test_a_run_prints_its_files_and_what_comes_next(call: Call, tmp_path: Path) -> None:
    with (tmp_path / "files/many.jsonl").open("a") as file:
        file.write('{"text": \n')
    code, out, err = call("train", "run.toml", "--out", "mine")
    assert (code, out.split()) == (0, ["mine/model.gguf", "mine/model"])
    assert all((tmp_path / path).exists() for path in out.split())
    assert "Left out: 1 x broken JSON" in err and "mine/data/report.html shows which." in err
    assert err.endswith("Next: gemmary chat mine/model.gguf\n")
    again = call("train", "run.toml", "--out", "mine")
    assert again[:2] == (code, out) and "Training" not in again[2]


def test_wrong_calls_are_explained(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, err = call("train")
    assert code == 2 and "train --example > run.toml" in err
    code, out, err = call("train", "none.toml")
    assert (code, out) == (1, "") and err.endswith(
        "gemmary: none.toml: cannot be read: No such file or directory\n"
    )
    monkeypatch.setitem(sys.modules, "torch", None)
    code, out, err = call("train", "run.toml")
    assert (code, err) == (
        1,
        "gemmary: training needs PyTorch, which is not installed: pip install 'gemmary[train]'\n",
    )


def test_a_model_too_large_for_the_machine_is_refused(call: Call, tmp_path: Path) -> None:
    large = PLAN.replace("width = 32", "width = 65536").replace("ffn = 32", "ffn = 1000000")
    (tmp_path / "run.toml").write_text(large)
    code, _, err = call("train", "run.toml")
    assert code == 1 and "weights, gradients and optimizer alone take" in err and "smaller model" in err
    assert not (tmp_path / "run").exists()


def test_what_was_trained_elsewhere_is_written_where_training_does_not_fit(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = call("train", "run.toml")
    (tmp_path / "run/export.json").unlink()
    (tmp_path / "run/model.gguf").unlink()
    monkeypatch.setattr(sys.modules["gemmary.cli.train"], "_machine", lambda: 1)
    assert call("train", "run.toml", "--steps", "6")[0] == 1
    assert call("train", "run.toml")[:2] == (code, out) == (0, "run/model.gguf\nrun/model\n")
    assert (tmp_path / "run/model.gguf").exists()


def test_an_interrupt_anywhere_is_130(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_advance", interrupted)
        code, out, err = call("train", "run.toml")
    assert (code, out) == (130, "") and err.endswith("Stopped. The same command goes on from here.\n")


@pytest.mark.long
@pytest.mark.timeout(300)
def test_ctrl_c_in_a_terminal_and_on(tmp_path: Path) -> None:
    write(tmp_path / "files")
    (tmp_path / "run.toml").write_text(PLAN.replace("steps = 5", "steps = 4000"))
    with Terminal("-c", RUN, "train", "run.toml", home=tmp_path) as screen:
        screen.expect("Training: run/train")
        screen.expect("step 2")
        screen.type("\x03")
        screen.expect("Stopping after this step, with a checkpoint.")
        screen.expect("The same command goes on from there.")
        assert screen.ended() == 130
    with Terminal("-c", RUN, "train", "run.toml", "--steps", "5", home=tmp_path) as screen:
        screen.expect("Trained: ")
        screen.expect("run/model.gguf")
        screen.expect("Next: gemmary chat run/model.gguf")
        assert screen.ended() == 0


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kilobytes", [1, 12, 90])
def test_files_that_cannot_grow_stop_it_with_a_sentence(tmp_path: Path, kilobytes: int) -> None:
    """The system refuses longer files, as a full disk does, wherever a run happens to be."""
    write(tmp_path / "files")
    (tmp_path / "run.toml").write_text(PLAN)
    limit = f"import resource as r; r.setrlimit(r.RLIMIT_FSIZE, ({kilobytes << 10}, {kilobytes << 10})); "
    codes = []
    for program in (limit + RUN, RUN):
        done = subprocess.run(
            [sys.executable, "-c", program, "train", "run.toml"], cwd=tmp_path, capture_output=True,
            text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert "Traceback" not in done.stderr
        codes.append(done.returncode)
        if done.returncode:
            assert "cannot be written" in done.stderr.splitlines()[-1]
    assert codes == [1, 0]
    assert (tmp_path / "run/model.gguf").exists() and not list((tmp_path / "run").rglob("*.part"))


@pytest.mark.long
@pytest.mark.timeout(300)
def test_two_processes_train_what_one_then_writes(tmp_path: Path) -> None:
    pytest.importorskip("torch.distributed", reason="this PyTorch trains on one device only")
    write(tmp_path / "files")
    (tmp_path / "run.toml").write_text(PLAN)
    words = ["-m", "gemmary", "train", "run.toml", "--out"]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    said = []
    for call in ([*torchrun, *words, "two"], [*words, "two"], [*words, "one"]):
        done = subprocess.run(
            [sys.executable, *call], cwd=tmp_path, capture_output=True, text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        said.append(done.stderr)
    assert "Trained. Write the model: gemmary train run.toml --out two" in said[0]
    assert said[0].count("Training: ") == 1 and said[1].endswith("Next: gemmary chat two/model.gguf\n")
    losses = [
        [json.loads(line)["loss"] for line in (tmp_path / name / "train/log.jsonl").open()]
        for name in ("one", "two")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
