"""What stops a run, and what is said then."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from gemmary.errors import GemmaryError
from gemmary.train import checkpoint
from gemmary.train.data import prepare as preparing
from gemmary.train.loop import DivergedError
from gemmary.train.vocabulary import train_vocabulary
from gemmary.weights import save
from tests.train.data.toyfiles import prose
from tests.train.runs import DATA, MODEL, PLAN, TRAIN, log, run, stamps

# What is refused


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (PLAN.replace("many.jsonl", "none.jsonl"), "source 'many': .* has no file none.jsonl"),
        (PLAN.replace('folder = "files"', 'folder = "filez"'), "there is no folder .*filez"),
        (PLAN.replace("tokenizer.model", "none.model"), "none.model: cannot be read: No such file"),
        (PLAN.replace("tokenizer.model", "tale.txt"), "tale.txt: is damaged, or not a SentencePiece model"),
        (PLAN.replace("[data]", "[data]\nshortest = 9999"), "nothing is left to train on: 80 x too short"),
        ('[model]\nfrom = "no.gguf"\n' + DATA.replace("vocabulary", "# ") + TRAIN,
         r"run.toml: model.from: .*no.gguf: there is no such file"),
        ('[model]\nfrom = "run.toml"\n' + DATA.replace("vocabulary", "# ") + TRAIN, "run.toml: model.from"),
        (PLAN + '[teacher]\nmodel = "files"\n', "run.toml: teacher.model: .*files: has no config.json"),
        (MODEL + '[data]\nshards = "files"\n' + TRAIN, "files: has no sound manifest.json"),
        (MODEL + '[data]\nshards = "none"\n' + TRAIN, "none/tokenizer.model: cannot be read"),
        (PLAN + '[save]\nsafetensors = "f32"\n', 'width of 32, a folder in f32 .* take safetensors = "bf16"'),
    ],
)  # fmt: skip
def test_what_is_missing_is_said_before_anything_is_trained(home: Path, text: str, message: str) -> None:
    with pytest.raises(GemmaryError, match=message) as told:
        run(home, text.replace("longest", ""))
    assert "\n" not in str(told.value)
    assert not (home / "out/train").exists()


@pytest.mark.long
def test_another_vocabulary_is_refused(home: Path) -> None:
    run(home)
    dice = random.Random(8)
    (home / "files/other.model").write_bytes(train_vocabulary([prose(dice, 40) for _ in range(60)], 590))
    other = DATA.replace("tokenizer.model", "other.model")
    run(home, MODEL + other + TRAIN, "other")
    teacher = '[teacher]\nmodel = "out/model"\n'
    with pytest.raises(GemmaryError, match=r"teacher has another vocabulary \(600 .*other.model \(590\)"):
        run(home, MODEL + other + TRAIN + teacher, "a")
    with pytest.raises(GemmaryError, match=r"teacher has another vocabulary \(600 .*other/data \(590\)"):
        run(home, MODEL + '[data]\nshards = "other/data"\n' + TRAIN + teacher, "b")
    with pytest.raises(GemmaryError, match="made with another vocabulary, of 590 pieces"):
        run(home, '[model]\nfrom = "out/model"\n[data]\nshards = "other/data"\n' + TRAIN, "c")
    with pytest.raises(GemmaryError, match="teacher has another vocabulary"):
        text = '[model]\nfrom = "other/model"\n[data]\nshards = "other/data"\n' + TRAIN + teacher
        run(home, text, "d")


def test_a_folder_of_another_run_is_left_alone(home: Path) -> None:
    run(home)
    before = stamps(home / "out")
    with pytest.raises(GemmaryError, match=r"another run: train.peak was 0.003 and is 0.5; name another"):
        run(home, PLAN + "peak = 0.5\n")
    with pytest.raises(GemmaryError, match=r"model.window was 16 and is 8, and 1 more"):
        run(home, (PLAN + "seed = 2\n").replace("window = 16", "window = 8"))
    with pytest.raises(GemmaryError, match="files is there and is not a run's folder"):
        run(home, name="files")
    with pytest.raises(GemmaryError, match="is a file: name a folder"):
        run(home, name="run.toml")
    assert stamps(home / "out") == before


@pytest.mark.long
def test_damage_is_said(home: Path) -> None:
    run(home)
    shutil.copytree(home / "out", home / "kept")
    (home / "out/run.json").write_text("{")
    with pytest.raises(GemmaryError, match=r"run.json is damaged"):
        run(home)
    shard = home / "kept/data/00000.safetensors"
    shard.write_bytes(shard.read_bytes()[:-9] + b"123456789")
    with pytest.raises(
        GemmaryError, match=r"changed since it was written.*\(remove .*kept/data, and the same"
    ):
        run(home, name="kept", steps=6)
    shutil.rmtree(home / "kept/data")
    for state in (home / "kept/train").glob("step-*/state.json"):
        state.write_text("{}")
    with pytest.raises(GemmaryError, match="no checkpoint is intact"):
        run(home, name="kept", steps=6)


@pytest.mark.long
def test_weights_that_are_no_numbers_are_refused(home: Path) -> None:
    run(home, PLAN + '[save]\nsafetensors = "f32"\ngguf = "none"\n')
    whole = home / "out/model/model.safetensors"
    content = bytearray(whole.read_bytes())
    content[-4:] = np.float32(np.nan).tobytes()
    whole.write_bytes(content)
    origin = '[model]\nfrom = "out/model"\n' + DATA.replace("vocabulary", "# ") + TRAIN
    with pytest.raises(GemmaryError, match="holds NaN or infinity: take another file"):
        run(home, origin, "more")


@pytest.mark.long
def test_a_run_that_diverges_stops(home: Path) -> None:
    with pytest.raises(DivergedError, match="not finite"):
        run(home, PLAN.replace("steps = 5", "steps = 40\npatience = 2\nmuon = 0\nclip = 1e30\npeak = 1e30"))


# A full disk, a forbidden folder


def full(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        pytest.param(preparing.ShardWriter, "add", marks=pytest.mark.long),
        (checkpoint, "forced"),
        pytest.param(save, "write_pieces", marks=pytest.mark.long),
    ],
)
def test_a_full_disk_stops_a_run_that_then_goes_on(
    home: Path, monkeypatch: pytest.MonkeyPatch, owner: object, name: str
) -> None:
    run(home, name="whole")
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, full)
        with pytest.raises(GemmaryError, match=r"cannot be written.*No space left on device"):
            run(home, PLAN + "[save]\ngguf = 'none'\n")
    assert not list((home / "out").rglob("*.part"))
    assert run(home, PLAN + "[save]\ngguf = 'none'\n").done
    assert log(home) == log(home, "whole")


@pytest.mark.long
def test_a_disk_too_small_for_the_model_is_said(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "gemmary.weights.target.shutil.disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 0)
    )
    with pytest.raises(GemmaryError, match=r"model.gguf: needs .* GB, and its disk has 0.00 GB left"):
        run(home)


def test_a_folder_that_cannot_be_written_is_said(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", forbidden)
    with pytest.raises(
        GemmaryError, match="out: cannot be written: Permission denied; use a folder that can"
    ):
        run(home)
