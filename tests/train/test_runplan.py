"""A run's file: what it may say, and a sentence for everything else."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from gemmary.train.loop import Plan
from gemmary.train.optimizer import Learning
from gemmary.train.runexample import example
from gemmary.train.runplan import RunPlan, differences, read_run
from gemmary.train.spike import Spikes
from gemmary.train.tables import PlanError, settable

DATA = '[data]\n[[data.source]]\nname = "a"\npaths = ["*.txt"]\n'
TRAIN = "[train]\nsteps = 7\n"


def read(folder: Path, text: str) -> RunPlan:
    (folder / "run.toml").write_text(text, encoding="utf-8")
    return read_run(folder / "run.toml")


def test_what_is_not_said_is_usual(tmp_path: Path) -> None:
    plan = read(tmp_path, DATA + TRAIN)
    assert plan.train == Plan(steps=7)
    assert plan.config is not None and (plan.config.name, plan.config.width) == ("nano", 256)
    assert plan.data is not None and plan.data.sources[0].paths == ("*.txt",)
    assert (plan.save.safetensors, plan.save.gguf) == ("bf16", "q8_0")


def test_every_setting_reaches_its_place(tmp_path: Path) -> None:
    text = (
        '[model]\nsize = "1b"\nlayers = 13\nhead_dim = 64\nglobal_layers = [2, 12]\n' + DATA +
        "[train]\nepochs = 2\nrow = 64\npeak = 1\nbetas = [0, 0.5]\nlow = false\nseed = 3\n"
        "ema = 0.9\nrecompute = true\nshards = 8\n[train.spikes]\nlimit = 5\n"
        '[teacher]\nmodel = "t.gguf"\ncache = true\ndraws = 9\nreading = "counts"\nreplacement = true\n'
        '[save]\ngguf = "none"\nsafetensors = "f32"\n'
    )  # fmt: skip
    plan = read(tmp_path, text)
    config = plan.config
    assert config is not None and config.vision is None
    assert (config.width, config.layers, config.head_dim, config.query_scalar) == (1152, 13, 64, 64)
    assert config.global_layers == (2, 12)
    assert (plan.row, plan.epochs, plan.train.steps, plan.train.low, plan.train.seed) == (
        64,
        2.0,
        0,
        False,
        3,
    )
    assert (plan.train.ema, plan.train.recompute, plan.train.spikes) == (0.9, True, Spikes(limit=5.0))
    assert plan.train.shards == 8
    assert plan.train.learning == Learning(peak=1.0, betas=(0.0, 0.5))
    assert plan.teacher is not None and plan.teacher.cache and plan.train.distill == plan.teacher.how
    assert (plan.teacher.how.draws, plan.teacher.how.reading) == (9, "counts")
    assert (plan.save.gguf, plan.save.safetensors) == ("none", "f32")


def test_layers_of_a_size_keep_its_pattern(tmp_path: Path) -> None:
    plan = read(tmp_path, "[model]\nlayers = 13\n" + DATA + TRAIN)
    assert plan.config is not None and plan.config.global_layers == (5, 11)


def test_flat_settings_never_share_a_name() -> None:
    assert not settable(Plan).keys() & settable(Learning).keys()


def test_the_example_is_a_plan(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("text")
    plan = read(tmp_path, example(tmp_path))
    assert plan.data is not None and plan.data.sources[0].paths == ("*.md",)
    assert plan.train.learning.warmup + plan.train.learning.cooldown < plan.train.steps


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[data\n", "is not TOML: .*line 1"),
        ("\0", "is not TOML"),
        ("", r"has no \[data\]; see an example with `gemmary train --example`"),
        (DATA, r"has no \[train\]"),
        ("[modle]\n", "line 1: modle is not known; did you mean model"),
        ("model = 3\n" + DATA + TRAIN, r"line 1: model is a group of lines below \[model\], not 3"),
        ('[model]\nsize = "2b"\n' + DATA + TRAIN, "line 2: model.size is '2b', but there are 270m, 1b"),
        ("[model]\nwidht = 3\n" + DATA + TRAIN, "line 2: model.widht is not known; did you mean width"),
        ('[model]\nwidth = "3"\n' + DATA + TRAIN, "line 2: model.width must be a whole number, not '3'"),
        ("[model]\nwidth = 0\n" + DATA + TRAIN, "line 2: model.width must be 1 or more, not 0"),
        ("[model]\nheads = 3\nkv_heads = 2\n" + DATA + TRAIN, "line 1: 3 query heads cannot share 2"),
        ("[model]\nglobal_layers = [7]\n" + DATA + TRAIN, "line 2: model.global_layers must be layers"),
        ('[model]\nfrom = "a"\nsize = "1b"\n' + DATA + TRAIN, "line 3: model.size cannot be set beside"),
        ("[data]\n" + TRAIN, "line 1: data.source is missing"),
        ("[data]\nsource = 3\n" + TRAIN, r"line 2: data.source is written as \[\[data.source\]\]"),
        (DATA + "text = 'x'\n" + TRAIN, "line 5: data.source.text must be a list of texts"),
        (DATA + "picture = 'x'\n" + TRAIN, "line 5: data.source.picture cannot be used here"),
        ('[data]\nshards = "a"\nseed = 1\n' + TRAIN, "line 3: data.seed cannot be set beside `shards`"),
        ('[data]\nepochs = 0\n[[data.source]]\nname="a"\npaths=["a"]\n' + TRAIN, "line 1: the plan's epochs"),
        (DATA + "[train]\n", "line 5: train.steps or train.epochs says how long"),
        (DATA + TRAIN + "epochs = 1\n", "line 6: train.steps or train.epochs"),
        (DATA + "[train]\nsteps = 0\n", "line 6: train.steps must be 1 or more, not 0"),
        (DATA + "[train]\nsteps = 1.5\n", "line 6: train.steps must be a whole number, not 1.5"),
        (DATA + TRAIN + "step = 3\n", "line 7: train.step is not known; did you mean steps"),
        (DATA + TRAIN + "distill = 3\n", "train.distill is not known"),
        (DATA + TRAIN + "peak = nan\n", "line 7: train.peak must be a number, not nan"),
        (DATA + TRAIN + "peak = 0\n", "line 7: train.peak must be above 0, not 0"),
        (DATA + TRAIN + "betas = [0.9, 1]\n", "line 7: train.betas must be two numbers from 0 to below 1"),
        (DATA + TRAIN + "ema = 1.0\n", "line 7: train.ema must be from 0 to below 1, not 1.0"),
        (DATA + TRAIN + "[train.spikes]\nlimits = 1\n", "line 8: train.spikes.limits is not known"),
        (DATA + TRAIN + "[train.spikes]\nback = -1\n", "line 7: window must be 2 or more"),
        (DATA + TRAIN + "low = 1\n", "line 7: train.low must be true or false, not 1"),
        (DATA + TRAIN + "shards = 0\n", "line 7: train.shards must be 1 or more, not 0"),
        (DATA + TRAIN + "row = 8192\n", "line 7: train.row is 8,192 tokens, more than .* context of 4,096"),
        (DATA + TRAIN + "[teacher]\ndraws = 3\n", "line 7: teacher.model is missing"),
        (DATA + TRAIN + '[teacher]\nmodel = "a"\nreading = "x"\n', "line 9: teacher.reading is 'x'"),
        (DATA + TRAIN + '[teacher]\nmodel = "a"\nreading = "counts"\n', "line 7: counts need draws with"),
        (DATA + TRAIN + '[save]\ngguf = "q9"\n', "line 8: save.gguf is 'q9', but must be one of q4_0"),
        (DATA + TRAIN + "[save]\ngguf = 3\n", "line 8: save.gguf must be a text in quotes, not 3"),
        (DATA.replace("[data]", "[data]\nvocabulary = 900") + TRAIN + '[teacher]\nmodel = "a"\n',
         "line 2: data.vocabulary must be the teacher's"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(PlanError, match=message) as told:
        read(tmp_path, text)
    assert str(told.value).startswith(str(tmp_path / "run.toml")) and "\n" not in str(told.value)


def test_a_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_bytes(b"\xff\xfe[\0")
    (tmp_path / "big.toml").write_bytes(b"#" * (2 << 20))
    for name, message in {"run": "no text in UTF-8", "big": "more than 1 MiB", "no": "No such file"}.items():
        with pytest.raises(PlanError, match=message):
            read_run(tmp_path / f"{name}.toml")
    with pytest.raises(PlanError, match="Is a directory"):
        read_run(tmp_path)


def test_only_what_lasts_differs(tmp_path: Path) -> None:
    before = read(tmp_path, DATA + TRAIN)
    recorded = json.loads(json.dumps(before.settings()))
    assert differences(recorded, before.settings()) == []
    passing = "[train]\nsteps = 9\nkeep = 1\ncheckpoint_every = 3\nshards = 4\n[save]\ngguf = 'f16'\n"
    assert differences(recorded, read(tmp_path, DATA + passing).settings()) == []
    changes = {
        DATA + TRAIN + "peak = 0.5\n": "train.peak was 0.003 and is 0.5",
        DATA + TRAIN + "row = 64\n": "train.row was 512 and is 64",
        DATA.replace("*.txt", "*.md") + TRAIN: "data.sources was .* and is ",
        "[model]\nwindow = 64\n" + DATA + TRAIN: "model.window was 128 and is 64",
    }
    for text, message in changes.items():
        said = differences(recorded, read(tmp_path, text).settings())
        assert len(said) == 1 and re.match(message, said[0])
