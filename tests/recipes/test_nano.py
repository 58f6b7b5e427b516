"""The whole recipe at toy size: every stage once, then nothing to do."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from gemmary.config import NANO
from gemmary.engine.load import load
from gemmary.recipes.conversation import FOCUS, Mixture
from gemmary.recipes.corpus import Part
from gemmary.recipes.language import Phase
from gemmary.recipes.nano import TAUGHT, Nano, Settings
from gemmary.train.loop import Plan
from gemmary.train.optimizer import Learning
from tests.recipes import toydata

CONFIG = replace(
    NANO, vocab=704, width=64, layers=2, heads=2, head_dim=32, ffn=96, window=32, context=256,
    query_scalar=32, global_layers=(1,),
)  # fmt: skip
PLAN = Plan(
    steps=20, rows=8, parts=1, workers=1, low=False, fuse=False, learning=Learning(warmup=5, cooldown=10)
)
TAUGHT_PLAN = replace(PLAN, distill=TAUGHT)
LEARNING = (
    Phase("all", Part("all", 20_000, 0.1, Mixture()), TAUGHT_PLAN),
    Phase("some", Part("some", 15_000, 0.0, FOCUS), replace(TAUGHT_PLAN, steps=10)),
)
TEACHING = (Phase("teacher", Part("teacher", 20_000, 0.1, Mixture()), PLAN),)
SETTINGS = Settings(
    config=CONFIG, teacher=replace(CONFIG, ffn=128), row=96, teaching=TEACHING, learning=LEARNING,
    vocabulary_conversations=300, held_pages=2, exam_questions=4,
    held_rows=3,
)  # fmt: skip
RESULTS = (".model", ".npz", ".safetensors", ".gguf", ".json")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = toydata.write(tmp_path_factory.mktemp("data"))
    out = tmp_path_factory.mktemp("out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gemmary.recipes.nano.rephrased", lambda: [("list grep matches", "grep -l directory")])
        assert Nano(data, out, SETTINGS).run()
        before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.suffix in RESULTS}
        assert Nano(data, out, SETTINGS).run()
    assert {path: path.stat().st_mtime_ns for path in before} == before, "a finished stage ran again"
    return out


def test_the_model_answers(made: Path) -> None:
    with load(made / "nano.gguf") as model:
        reply = model.chat([{"role": "user", "content": "hello"}], temperature=0.0, max_tokens=8)
    assert model.config.layers == 2
    assert 1 <= len(reply.ids) <= 8


def test_scores_and_card_agree(made: Path) -> None:
    scores = json.loads((made / "scores.json").read_text(encoding="utf-8"))
    card = (made / "README.md").read_text(encoding="utf-8")
    assert scores["reworded by hand"]["BM25"]["exact"] == 1.0
    assert "| reworded by hand | 1 |" in card
    assert "{" not in card
    for values in scores["perplexity"].values():
        assert values["Q8_0"] == pytest.approx(values["float32"], rel=0.02)
        assert f"{values['Q8_0']:.2f}" in card


def test_training_lowered_the_loss(made: Path) -> None:
    logs = [(made / phase / "log.jsonl").read_text(encoding="utf-8") for phase in ("all", "some")]
    first, second = ([json.loads(line)["loss"] for line in log.splitlines()] for log in logs)
    assert (len(first), len(second)) == (20, 10)
    assert first[0] > 6 > first[-1] > second[-1]
