"""The whole recipe at toy size: every stage once, then nothing to do."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from gemmary.config import VisionConfig
from gemmary.engine.load import load
from gemmary.errors import ModelFileError
from gemmary.recipes.conversation import FOCUS, Mixture
from gemmary.recipes.corpus import Part
from gemmary.recipes.language import Phase
from gemmary.recipes.nano import SEEING, STUDENT, TAUGHT, Long, Nano, Settings
from gemmary.recipes.nano import made as run
from gemmary.recipes.release import Exam, stored_vocabulary
from gemmary.recipes.sight import Look, Naming, Pairing, Showing
from gemmary.recipes.together import Mixing
from gemmary.train.log import read
from gemmary.train.loop import Plan
from gemmary.train.optimizer import Learning
from gemmary.train.packing import Rows
from gemmary.train.sight_task import SightTask
from gemmary.weights.checkpoint import open_checkpoint
from tests.recipes import toydata

EYES = VisionConfig(width=32, layers=2, heads=2, ffn=64, image=56, patch=14, tokens=4)
CONFIG = replace(
    STUDENT, vocab=704, width=64, layers=2, heads=2, head_dim=32, ffn=96, window=32, context=256,
    query_scalar=32, global_layers=(1,), vision=None,
)  # fmt: skip
READER = replace(CONFIG, width=32, heads=1, kv_heads=1, layers=1, window=64, global_layers=(0,))
PLAN = Plan(
    steps=20, rows=8, parts=1, workers=1, low=False, fuse=False, learning=Learning(warmup=5, cooldown=10)
)
SHORT = replace(PLAN, steps=4)
TAUGHT_PLAN = replace(PLAN, distill=TAUGHT)
SETTINGS = Settings(
    config=CONFIG, teacher=replace(CONFIG, ffn=128), eyes=EYES, row=128,
    teaching=(Phase("teacher", Part("teacher", 20_000, 0.1, Mixture()), PLAN),),
    learning=(
        Phase("all", Part("all", 20_000, 0.1, Mixture()), TAUGHT_PLAN),
        Phase("some", Part("some", 15_000, 0.0, FOCUS), replace(TAUGHT_PLAN, steps=10)),
    ),
    long=Long(replace(SHORT, rows=1), row=256, rows=4),
    pairing=Pairing(
        replace(SHORT, parts=2), READER, batch=8, size=16, tiles=12,
        looks=(Look("thing", 2, 0), Look("label", 2, 1), Look(None, 1, 2)),
    ),
    naming=Naming(SHORT, collages=6, tiles=6, kinds=(("thing", 2), ("sign", 2))),
    spelling=Naming(SHORT, collages=6, tiles=6, kinds=(("label", 1),)),
    tuning=Showing(SHORT, pictures=24), showing=Showing(SHORT, pictures=24),
    mixing=Mixing(SHORT, pictures=24, collages=4, tiles=6, kinds=(("thing", 2), ("sign", 2))),
    drilling=Mixing(SHORT, pictures=24, collages=4, tiles=6, kinds=(("sign", 2),), cut=1.0),
    settling=Mixing(SHORT, pictures=12, collages=2, tiles=6, kinds=(("sign", 2),), text_share=0.6),
    vocabulary_conversations=300, held_pages=2, exam=Exam(questions=4, rows=3, pictures=1),
)  # fmt: skip
pytestmark = pytest.mark.timeout(600)  # seconds, on a machine that has nothing else to do
RESULTS = (".model", ".npz", ".safetensors", ".gguf", ".json", ".bin")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toydata.write(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, data: Path, installed_fonts: object) -> Path:
    out = tmp_path_factory.mktemp("out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "gemmary.recipes.release.rephrased", lambda: [("list grep matches", "grep -l directory")]
        )
        assert Nano(data, out, SETTINGS).run()
        before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.suffix in RESULTS}
        assert Nano(data, out, SETTINGS).run()
    assert {path: path.stat().st_mtime_ns for path in before} == before, "a finished stage ran again"
    return out


def test_the_model_answers_and_looks(made: Path) -> None:
    picture = np.zeros((40, 60, 3), np.uint8)
    content = [{"type": "image", "image": picture}, {"type": "text", "text": "hello"}]
    with load(made / "nano.gguf") as model:
        reply = model.chat([{"role": "user", "content": content}], temperature=0.0, max_tokens=8)
        assert model.config.vision == EYES
        assert model.config.rope_global.factor == 8.0 and model.config.context == 8 * SETTINGS.row
    assert 1 <= len(reply.ids) <= 8


def test_what_is_shipped_lies_halfway_between_the_last_two_stages(made: Path) -> None:
    drilled, settled = (load_file(made / stage / "weights.safetensors") for stage in SEEING[-2:])
    shipped = open_checkpoint(made / "nano.gguf")
    name = "layers.0.attn_norm"
    assert not np.array_equal(drilled[name], settled[name])
    np.testing.assert_allclose(shipped.gain(name), 1 + (drilled[name] + settled[name]) / 2, atol=1e-6)
    assert shipped.vision is not None
    bias = "layers.0.fc1.bias"
    halfway = (drilled[f"eyes.{bias}"] + settled[f"eyes.{bias}"]) / 2
    np.testing.assert_allclose(shipped.vision.tensors[bias].values(), halfway, atol=1e-6)


def test_scores_and_card_agree(made: Path) -> None:
    scores = json.loads((made / "scores.json").read_text(encoding="utf-8"))
    card = (made / "README.md").read_text(encoding="utf-8")
    assert scores["commands"]["reworded by hand"]["BM25"]["exact"] == 1.0
    assert "| reworded by hand | 1 |" in card
    assert "{" not in card
    for values in scores["perplexity"].values():
        assert values["Q8_0"] == pytest.approx(values["float32"], rel=0.02)
        assert f"{values['Q8_0']:.2f}" in card
    assert {"scene", "word", "receipt"} <= set(scores["pictures"])
    for name in ("teacher", "all", "some", "long", *SEEING):
        assert f"| {name} |" in card


def test_training_lowered_the_loss(made: Path) -> None:
    logs = [(made / phase / "log.jsonl").read_text(encoding="utf-8") for phase in ("teacher", "all", "some")]
    teacher, first, second = ([json.loads(line)["loss"] for line in log.splitlines()] for log in logs)
    assert (len(first), len(second)) == (20, 10)
    assert teacher[0] > 6 > teacher[-1]
    assert first[0] > 6 > first[-1] > second[-1]


def test_a_run_that_is_cut_while_it_learns_to_see_goes_on(
    made: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the restart `shown` comes from its folder, and `together` must see the very rows that it saw."""
    out = tmp_path / "out"
    shutil.copytree(made, out, ignore=shutil.ignore_patterns("shown", *SEEING[-3:]))
    with monkeypatch.context() as patch:
        patch.setattr(SightTask, "parts", stopping_at(2, out / "shown" / "weights.safetensors"))
        assert not Nano(data, out, SETTINGS).run()
    assert (out / "together" / "step-00000003").exists()
    assert not (out / "together" / "weights.safetensors").exists()
    assert Nano(data, out, SETTINGS).run()
    for stage in SEEING[-4:]:
        path = Path(stage, "weights.safetensors")
        assert (out / path).read_bytes() == (made / path).read_bytes(), stage


def test_the_last_stages_can_be_had_again_from_the_files(made: Path, data: Path, tmp_path: Path) -> None:
    assert run(data, tmp_path, SETTINGS, made)
    first, again = (
        json.loads((out / "drilled" / "run.json").read_text(encoding="utf-8"))["data"]
        for out in (made, tmp_path)
    )
    again["model"]["name"] = first["model"]["name"]  # files tell sizes; what they are called is guessed
    assert again == first, "other texts, pictures or another config"
    before, after = (read(out / "drilled" / "log.jsonl").records[0]["loss"] for out in (made, tmp_path))
    assert after < before, "it did not begin with what the first run had learnt"
    assert stored_vocabulary(tmp_path) == stored_vocabulary(made)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "| drilled |" in card and "| together |" not in card
    assert open_checkpoint(tmp_path / "nano.gguf").config == open_checkpoint(made / "nano.gguf").config


def test_files_without_eyes_are_refused(made: Path, data: Path, tmp_path: Path) -> None:
    shutil.copy(made / "nano.gguf", tmp_path)
    with pytest.raises(ModelFileError, match=r"has no eyes: mmproj-nano.gguf is missing beside it"):
        run(data, tmp_path / "out", SETTINGS, tmp_path)


def test_a_folder_without_files_is_a_sentence(data: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "gemmary.recipes.nano", "--data", data, "--out", tmp_path / "out"]
    done = subprocess.run([*words, "--repeat", tmp_path], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1 and "nano.gguf" in done.stderr


def stopping_at(step: int, behind: Path) -> Callable[[SightTask, int], list[Rows]]:
    """`SightTask.parts` with Ctrl-C at `step`, once the file `behind` is there."""
    honest = SightTask.parts

    def parts(task: SightTask, asked: int) -> list[Rows]:
        if asked == step and behind.exists():
            signal.raise_signal(signal.SIGINT)
        return honest(task, asked)

    return parts
