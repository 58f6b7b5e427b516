"""The long phase: what is rescaled, what is not, and what the written model says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from gemmary.config import Config
from gemmary.formats import FORMATS
from gemmary.inputs.tokenizer import Tokenizer
from gemmary.model.modules import TextModule
from gemmary.ops.contract import pack
from gemmary.ops.trainable import Trainable
from gemmary.recipes.corpus import HELD_BOOKS
from gemmary.recipes.long import Long, Settings, books, lengthened
from gemmary.recipes.network import decoder
from gemmary.train.initial import initialise
from gemmary.train.loop import Plan
from gemmary.train.optimizer import Learning
from gemmary.train.vocabulary import BOS
from gemmary.weights.checkpoint import open_checkpoint
from gemmary.weights.save import write_folder
from gemmary.weights.tensor import Tensor
from tests.recipes.studies import library
from tests.train import toys

PLAN = Plan(
    steps=2, rows=1, parts=1, workers=1, low=False, fuse=False, learning=Learning(warmup=1, cooldown=1)
)
SETTINGS = Settings(row=64, measured=256, rows=6, held=2, plan=PLAN)


def test_only_positions_of_global_layers_are_divided() -> None:
    long = lengthened(toys.TOY, 8, 4096)
    assert (long.rope_global.factor, long.context) == (8, 4096)
    assert replace(long, rope_global=toys.TOY.rope_global, context=toys.TOY.context) == toys.TOY
    assert lengthened(long, 2, 8192).rope_global.factor == 16
    for factor, context in ((0.5, 4096), (8, 16)):
        with pytest.raises(ValueError, match="cannot be lengthened"):
            lengthened(toys.TOY, factor, context)


def hidden(config: Config, weights: dict[str, np.ndarray], stretch: int) -> torch.Tensor:
    """Hidden states of a text whose positions are `stretch` apart."""
    model = TextModule(config, Trainable(12, (None,)))
    model.load_arrays(weights)
    step = pack([list(range(1, 13))], rows=range(12))
    with torch.no_grad():
        return model(replace(step, pos=step.pos * stretch))


def test_far_positions_look_like_near_ones_with_the_same_weights() -> None:
    everywhere = replace(toys.TOY, global_layers=tuple(range(toys.TOY.layers)))
    weights = toys.model(everywhere).arrays()
    near, far = (hidden(c, weights, n) for c, n in ((everywhere, 1), (lengthened(everywhere, 8, 4096), 8)))
    torch.testing.assert_close(near, far)
    assert not torch.allclose(near, hidden(everywhere, weights, 8), atol=1e-3)


def test_rows_of_books_run_on(tmp_path: Path) -> None:
    data, tokenizer = library.write(tmp_path), Tokenizer.from_model(library.vocabulary())
    rows = books(data, tokenizer, 64, HELD_BOOKS, 6)
    text = (data / "books" / HELD_BOOKS[0]).read_text(encoding="utf-8")
    assert rows.ids.shape == (6, 64)
    assert (rows.ids[:, 0] == BOS).all()
    assert {tuple(row[1:]) for row in rows.ids[:3].tolist()} <= {
        tuple(tokenizer.encode(text)[at : at + 63]) for at in (0, 63, 126)
    }


def test_the_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = replace(toys.TOY, vocab=library.SIZE, context=32)
    model = toys.model(config)
    initialise(model, 3)
    tensors = {
        name: Tensor.pack(name, a, FORMATS["F32"], 0.0 if a.ndim == 2 else 1.0)
        for name, a in model.arrays().items()
    }
    source = tmp_path / "short"
    write_folder(source, config, tensors)
    (source / "tokenizer.model").write_bytes(library.vocabulary())
    out = tmp_path / "out"
    assert Long(source, library.write(tmp_path / "data"), out, SETTINGS).run()

    measured = json.loads((out / "positions.json").read_text(encoding="utf-8"))
    assert list(measured) == ["before", "rescaled", "after"]
    assert [(b["first"], b["last"]) for b in measured["after"]] == [(0, 128), (128, 256)]
    assert len({round(found[1]["loss"], 6) for found in measured.values()}) == 3
    assert "128 -    256" in capsys.readouterr().out

    fields = gguf.GGUFReader(out / "long.gguf").fields
    assert fields["gemma3.rope.scaling.factor"].contents() == 8
    assert fields["gemma3.context_length"].contents() == 256
    opened = open_checkpoint(out / "long.gguf")
    assert opened.config.rope_global.factor == 8
    trained = decoder(config, model.arrays(), 64).arrays()
    assert not np.array_equal(opened.tensors["embed"].values(), trained["embed"])
