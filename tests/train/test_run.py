"""A run: from files to files, cut anywhere."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gemmary import load
from gemmary.errors import GemmaryError
from gemmary.inputs.tokenizer import Tokenizer
from gemmary.model.modules import TextModule
from gemmary.train import checkpoint
from gemmary.train import run as stages
from gemmary.train.company import Company
from gemmary.train.data.shards import vocabulary_digest
from gemmary.train.loop import Trainer
from gemmary.train.run import Result, Run
from gemmary.train.rundata import left_out
from gemmary.train.runplan import read_run
from gemmary.weights.checkpoint import open_checkpoint
from tests.train.crew import crew
from tests.train.data.toyfiles import prose, write_jsonl
from tests.train.runs import DATA, MODEL, PLAN, TRAIN, Heard, log, made, run, stamps

ROOT = Path(__file__).parents[2]


# What comes out


def test_a_run_leaves_a_model_with_the_weights_that_were_trained(home: Path) -> None:
    result = run(home)
    assert result == Result((home / "out/model.gguf", home / "out/model"), 5, True)
    trained = checkpoint.load_latest(home / "out/train")
    assert trained is not None and trained.step == 5
    for path, near in ((result.paths[0], 2e-2), (result.paths[1], 1e-2)):
        found = open_checkpoint(path)
        assert (found.config.width, found.config.global_layers, found.config.vocab) == (32, (1,), 600)
        assert found.embed_scale == float(torch.tensor(32**0.5).bfloat16())
        for name in ("embed", "layers.1.down"):
            wanted = trained.tensors[f"model.{'table' if name == 'embed' else name}.weight"].numpy()
            assert np.abs(found.tensors[name].values() - wanted).max() < near * np.abs(wanted).max()
        gain = 1 + trained.tensors["model.norm.weight"].numpy()
        np.testing.assert_allclose(found.gain("norm"), gain, rtol=1e-6)


@pytest.mark.long
def test_the_same_command_again_does_nothing(home: Path) -> None:
    first = run(home)
    before = stamps(home / "out")
    again, _ = made(home)
    assert again.run() == first and stamps(home / "out") == before


@pytest.mark.long
def test_a_run_that_is_made_longer_keeps_its_data(home: Path) -> None:
    run(home)
    before = stamps(home / "out")
    assert run(home, steps=7).step == 7
    now = stamps(home / "out")
    assert [step for step, _ in log(home)] == [1, 2, 3, 4, 5, 6, 7]
    assert {name for name in now if name.startswith("data") and now[name] != before[name]} == set()
    assert now["model.gguf"] != before["model.gguf"]


@pytest.mark.long
def test_a_stopped_run_goes_on_exactly(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(home, name="whole")
    honest = Trainer._advance

    def stopped(self: Trainer) -> Any:
        if self.step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return honest(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_advance", stopped)
        assert run(home) == Result((), 3, False)
    assert run(home).done
    assert log(home) == log(home, "whole")
    assert (home / "out/model.gguf").read_bytes()[-999:] == (home / "whole/model.gguf").read_bytes()[-999:]


@pytest.mark.long
def test_a_model_is_gone_on_with(home: Path) -> None:
    """With no step that moves anything, the result is where it came from."""
    run(home)
    origin = '[model]\nfrom = "out/model"\n' + DATA.replace('vocabulary = "tokenizer.model"\n', "")
    still = TRAIN.replace("steps = 5", "steps = 1\npeak = 1e-30\ndecay = 0\nmuon = 0")
    result = run(home, origin + still + '[save]\ngguf = "bf16"\n', "more")
    before, now = open_checkpoint(home / "out/model"), open_checkpoint(result.paths[0])
    for name in now.tensors:
        values = before.gain(name) if name.endswith("norm") else before.tensors[name].values()
        held = now.gain(name) if name.endswith("norm") else now.tensors[name].values()
        np.testing.assert_array_equal(held, values)
    tokenizers = [Tokenizer.from_model(home / f"{run}/data/tokenizer.model") for run in ("out", "more")]
    assert len({vocabulary_digest(tokenizer) for tokenizer in tokenizers}) == 1


@pytest.mark.long
@pytest.mark.parametrize("cache", ["true", "false"])
def test_a_teacher_gives_its_vocabulary_and_is_learnt_from(home: Path, cache: str) -> None:
    run(home, name="big")
    text = MODEL + DATA.replace('vocabulary = "tokenizer.model"\n', "") + TRAIN
    text += f'[teacher]\nmodel = "big/model.gguf"\ndraws = 8\ncache = {cache}\n'
    assert run(home, text).done
    assert (home / "out/targets").exists() == (cache == "true")
    assert log(home) != log(home, "big")


@pytest.mark.long
def test_epochs_become_steps(home: Path) -> None:
    text = PLAN.replace("steps = 5", "epochs = 0.5")
    cost = made(home, text)[0].cost()
    assert not (home / "out").exists() and not cost.exact
    result = run(home, text)
    counted = made(home, text)[0].cost()
    assert counted.exact and counted.steps == result.step
    assert counted.epochs == pytest.approx(0.5, rel=0.3)  # rows have filling
    assert cost.steps == pytest.approx(result.step, rel=0.6)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_transformers_and_the_engine_load_what_it_wrote(home: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="is the oracle")
    result = run(home, PLAN.replace("width = 32", "width = 96") + '[save]\ngguf = "bf16"\n')
    text = "bace difo guha. jeki\n"
    ours = Tokenizer.from_model(home / "out/data/tokenizer.model")
    theirs = transformers.AutoTokenizer.from_pretrained(result.paths[1])
    ids = theirs(text)["input_ids"]
    assert ids == [2, *ours.encode(text)]
    model = transformers.AutoModelForCausalLM.from_pretrained(result.paths[1], torch_dtype=torch.float32)
    wanted = model(torch.tensor([ids])).logits[0].detach().numpy()
    with load(result.paths[0]) as engine, load(result.paths[1]) as folder:
        assert engine.tokenizer.encode(text) == ids[1:]
        for loaded in (engine, folder):
            assert np.abs(loaded.logits(ids) - wanted).max() < 0.05 * np.abs(wanted).max()


@pytest.mark.long
@pytest.mark.timeout(600)
def test_killed_at_any_stage_it_goes_on_exactly(home: Path) -> None:
    """SIGKILL at random wall times; the files at the end are those of a run that was never cut."""
    run(home, name="whole")
    (home / "run.toml").write_text(PLAN)
    program = (
        "import sys, pathlib; from gemmary.train.run import Run; from gemmary.train.voice import Lines; "
        "from gemmary.train.runplan import read_run; at = pathlib.Path(sys.argv[1]); "
        "print('here', flush=True); Run(read_run(at / 'run.toml'), at / 'out', Lines()).run()"
    )
    dice, kills = random.Random(4), 0
    for _ in range(12):
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(home)], cwd=ROOT, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert process.stdout is not None and process.stdout.readline() == b"here\n"
        try:
            process.wait(dice.uniform(0.05, 3))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
        process.stdout.close()
    assert kills, "nothing was ever cut"
    assert run(home).done
    assert log(home) == log(home, "whole")
    for name in ("model/model.safetensors", "model/tokenizer.model", "data/00000.safetensors"):
        assert (home / "out" / name).read_bytes() == (home / "whole" / name).read_bytes()
    assert not [path for path in (home / "out").rglob("*") if path.suffix in (".part", ".old")]


# Many processes

AMONG = PLAN + "parts = 2\nclip = 1e9\nema = 0.9\n"


def run_among(company: Company, home: Path) -> None:
    """What a process of torchrun does. The whole model is never moved to a device, where it may not fit."""
    TextModule.to = None  # type: ignore[method-assign, assignment]
    stages.torchrun = lambda: nullcontext(company)  # type: ignore[assignment]
    assert Run(read_run(home / "run.toml"), home / "among", Heard()).run() == Result((), 5, True)


def refused_among(company: Company, home: Path) -> None:
    with pytest.raises(GemmaryError, match="2 processes do not make replicas of 3 shards; choose"):
        run_among(company, home)
    assert not (home / "among/data").exists()


@pytest.mark.long
@pytest.mark.parametrize(("shards", "parts"), [("", 2), ("shards = 2\n", 2), ("shards = 1\n", 1)])
def test_many_processes_train_what_one_writes_without_training_it(
    home: Path, monkeypatch: pytest.MonkeyPatch, shards: str, parts: int
) -> None:
    run(home, AMONG)
    (home / "run.toml").write_text(AMONG + shards)
    assert crew(2, run_among, home) == [0, 0]
    files = list((home / "among/train/step-00000005").glob("*.safetensors"))
    assert len(files) == 2 and sum(path.stat().st_size > 20_000 for path in files) == parts
    monkeypatch.setattr(stages, "student", None)
    monkeypatch.setattr(stages, "Trainer", None)
    assert run(home, AMONG + shards, "among").step == 5
    one, many = (open_checkpoint(home / name / "model").tensors for name in ("out", "among"))
    assert one.keys() == many.keys()
    assert [name for name in one if not np.array_equal(one[name].raw, many[name].raw)] == []


@pytest.mark.long
def test_shards_that_do_not_divide_the_processes_are_refused(home: Path) -> None:
    with pytest.raises(GemmaryError, match="1 process does not make replicas of 3 shards; choose"):
        run(home, AMONG + "shards = 3\n")
    assert crew(2, refused_among, home) == [0, 0]


# What is left out


def test_bad_files_are_counted(home: Path) -> None:
    files = home / "files"
    (files / "empty.txt").touch()
    (files / "program.txt").write_bytes(b"\0\1\2")
    dice = random.Random(3)
    (files / "mixed.txt").write_bytes(prose(dice, 30).encode() + b" \xe9t\xe9\n\n" + prose(dice, 30).encode())
    with (files / "many.jsonl").open("a") as file:
        file.write('{"text": \n{"text": "' + prose(dice, 30) + '", "q": NaN}\n')
    text = PLAN.replace("[train]", '[[data.source]]\nname = "files"\npaths = ["*.txt"]\n[train]')
    assert run(home, text.replace('paths = ["many', 'quality = "q"\npaths = ["many')).done
    said = left_out(home / "out/data")
    assert said is not None and said.endswith("report.html shows which.")
    for reason in (
        "1 x empty",
        "1 x binary",
        "1 x not UTF-8",
        "1 x broken JSON",
        "1 x quality is not a number",
    ):
        assert reason in said


# Files that change between two runs


@pytest.mark.long
def test_new_files_are_for_a_new_run(home: Path) -> None:
    run(home)
    with (home / "files/many.jsonl").open("a") as file:
        file.write("\n")
    again, heard = made(home, steps=6)
    assert again.run().done and "many.jsonl changed since training began" in heard.text
    (home / "files/many.jsonl").unlink()
    again, heard = made(home, steps=7)
    assert again.run().done and "are gone" in heard.text


@pytest.mark.long
def test_data_that_is_not_trained_on_yet_is_made_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(stages, "student", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(home)
    write_jsonl(home / "files/many.jsonl", [{"text": prose(random.Random(n), 40)} for n in range(30)])
    (home / "out/.data.1.part").mkdir()  # what a killed process leaves
    assert run(home).done
    report = json.loads((home / "out/data/report.json").read_text())
    assert report["totals"]["read"] == 30 and not (home / "out/.data.1.part").exists()


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt
