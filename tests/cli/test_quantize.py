"""`gemmary quantize` and `gemmary convert`, as a shell sees them."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from gemmary import cli, load
from gemmary.weights.checkpoint import open_checkpoint
from gemmary.weights.requantize import BODIES, FLOATS, TABLES

from .terminals import ROOT
from .tiny import write_tiny

verbs = importlib.import_module("gemmary.cli.quantize")  # the package's attribute of that name is the verb
Run = Callable[..., tuple[int, str, str]]
TEXT = "alpha beta gamma delta " * 30


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`gemmary words...` in this process and a folder of its own: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    write_tiny(tmp_path / "tiny.gguf")
    (tmp_path / "text.txt").write_text(TEXT)

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["gemmary", *words])
        with pytest.raises(SystemExit) as end:
            cli.main()
        told = capsys.readouterr()
        return int(end.value.code or 0), told.out, told.err

    return run


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_flags_name_what_there_is() -> None:
    """The formats, written twice so that --help need not load them."""
    flags = get_type_hints(verbs.quantize) | {"floats": get_type_hints(verbs.convert)["to"]}
    assert get_args(flags["to"]) == BODIES
    assert get_args(get_args(flags["table"])[0]) == TABLES
    assert get_args(flags["floats"]) == FLOATS


def test_quantize_says_what_it_did_and_leaves_stdout_alone(run: Run, tmp_path: Path) -> None:
    code, out, err = run("quantize", "tiny.gguf", "new.gguf", "--to", "Q4_0")
    assert (code, out) == (0, "")
    assert err.splitlines()[0].startswith(
        "42 of its matrices are quantized already, and quality is lost twice"
    )
    assert err.splitlines()[1:] == ["Wrote new.gguf. Look at it: gemmary show new.gguf"]
    kinds = {n: t.format.name for n, t in open_checkpoint(tmp_path / "new.gguf").tensors.items()}
    assert (kinds["embed"], kinds["layers.0.q"], kinds["norm"]) == ("Q8_0", "Q4_0", "F32")


def test_check_prints_a_table_on_stdout(run: Run) -> None:
    code, out, _ = run("quantize", "tiny.gguf", "new.gguf", "--to", "int4", "--check", "text.txt",
                       "--check-tokens", "50")  # fmt: skip
    head, before, after = (line.split() for line in out.splitlines())
    assert code == 0 and head == "51 tokens perplexity KL per token same first choice".split()
    assert before[0] == "float32" and after[0] == "int4"
    assert 1 < float(before[1]) < 1e4 and float(after[1]) != float(before[1])
    assert 0 < float(after[2]) < 1 and after[3].endswith("%")
    assert len({len(line) for line in out.splitlines()[::2]}) == 1


@pytest.mark.long
def test_convert_there_and_back(run: Run, tmp_path: Path) -> None:
    assert run("convert", "tiny.gguf", "out", "--to", "f32")[:2] == (0, "")
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer.model"} < names(tmp_path / "out")
    assert run("convert", "./out/", "back.gguf", "--to", "f32")[0] == 0
    code, _, err = run("convert", "back.gguf", "out")
    assert code == 1 and "out: is there already" in err
    code, _, err = run("convert", "back.gguf", "out", "--force")
    assert code == 0 and "43 of its matrices are rounded to bf16" in err
    with load(tmp_path / "out") as model:
        assert model.chat([{"role": "user", "content": "a"}], max_tokens=2, temperature=0).ids


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("tiny.gguf", "new.gguf"), "Missing option '--to'"),
        (("tiny.gguf", "new.gguf", "--to", "sfp8"), "'sfp8' is not one of 'q4_0', 'int4', 'q8_0'"),
        (("tiny.gguf", "new.gguf", "--to", "q4_0", "--table", "q4_0"), "'q4_0' is not one of 'q8_0', 'q6_k'"),
        (("tiny.gguf", "--to", "q4_0"), "Missing argument 'DST'"),
        (("tiny.gguf", "new.gguf", "--to", "q4_0", "--check-tokens", "1"), "--check-tokens"),
    ],
)
def test_wrong_calls(run: Run, tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    code, out, err = run("quantize", *words)
    assert (code, out) == (2, "") and told in err and "Traceback" not in err
    assert names(tmp_path) == {"tiny.gguf", "text.txt"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("absent.gguf", "new.gguf"), "absent.gguf: there is no such file or folder"),
        (("text.txt", "new.gguf"), "text.txt: is not a GGUF file"),
        (("tiny.gguf", "new.bin"), "new.bin: quantize writes GGUF files"),
        (("tiny.gguf", "tiny.gguf"), "tiny.gguf: is the source itself"),
        (("tiny.gguf", "gone/new.gguf"), "there is no folder gone: make it first"),
        (("tiny.gguf", "text.gguf", "--check", "absent.txt"), "absent.txt: cannot be read: No such file"),
        (("tiny.gguf", "text.gguf", "--check", "tiny.gguf"), "tiny.gguf: is not UTF-8 text"),
        (("tiny.gguf", "text.gguf", "--check", "empty.txt"), "needs 2 tokens or more"),
        (("tiny.gguf", "text.gguf", "--check", "text.txt", "--check-tokens", "9999"), "at most 256 tokens"),
    ],
)
def test_errors_come_before_the_work(run: Run, tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    (tmp_path / "empty.txt").touch()
    (tmp_path / "text.txt").write_text(TEXT * 9)
    code, out, err = run("quantize", *words, "--to", "q4_0")
    assert (code, out) == (1, "")
    assert err.startswith("gemmary: ") and told in err and err.count("\n") == 1
    assert names(tmp_path) == {"tiny.gguf", "text.txt", "empty.txt"}


STOPPED = """
import importlib, sys, time
from gemmary.cli import main
quantize = importlib.import_module("gemmary.cli.quantize")
def writing(title):
    class Slow:
        def __enter__(self):
            return lambda done, total: (print("begun", flush=True), time.sleep(60))
        def __exit__(self, *_):
            return None
    return Slow()
quantize.download_progress, quantize.PATIENCE = writing, -1
sys.argv[0] = "gemmary"
main()
"""


@pytest.mark.parametrize(("verb", "name"), [("quantize", "new.gguf"), ("convert", "new")])
def test_ctrl_c_leaves_nothing(run: Run, tmp_path: Path, verb: str, name: str) -> None:
    words = [verb, "tiny.gguf", name, "--to", "f16"]
    with subprocess.Popen(
        [sys.executable, "-c", STOPPED, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)}, text=True,
    ) as writing:  # fmt: skip
        assert writing.stdout is not None and writing.stderr is not None
        assert writing.stdout.readline() == "begun\n"
        writing.send_signal(signal.SIGINT)
        told = writing.stderr.read()
        assert writing.wait() == 130
    assert f"Stopped. {name} was not written." in told and "Traceback" not in told
    assert names(tmp_path) == {"tiny.gguf", "text.txt"}
