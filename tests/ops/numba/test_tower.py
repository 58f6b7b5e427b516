"""Towers on the CPU engine against plain torch: exact in float32, within the gate in int8, one answer."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from gemmary.config import VisionConfig
from gemmary.errors import UnsupportedModelError
from gemmary.formats import FORMATS, decode, encode
from gemmary.model.text import Gain
from gemmary.model.vision import features, picture_step
from gemmary.ops.contract import Attention, pack
from gemmary.ops.numba import machine
from gemmary.ops.numba.machine import path, team
from gemmary.ops.numba.memory import WeightMemory
from gemmary.ops.numba.table import NumbaOps
from gemmary.ops.numba.tower import TOGETHER, TowerLinear, pack_linear
from tests.ops.numba.towers import PICTURES, SMALL, cosines, packed, random_weights, truth

ODD = VisionConfig(width=40, layers=2, heads=4, ffn=50, image=70, patch=7, tokens=25)  # nothing is round
MANY = replace(SMALL, layers=1, image=7 * 48, tokens=64)  # more patches than go together
GATE = 0.999
ROOT = Path(__file__).parents[3]


@cache
def weights(config: VisionConfig, outliers: int = 0) -> dict[str, np.ndarray]:
    return random_weights(config, 64, outliers)


def pictures(config: VisionConfig) -> np.ndarray:
    return np.stack([draw(config.image) for draw in PICTURES.values()])


@pytest.mark.parametrize("config", [SMALL, ODD, MANY], ids=["small", "odd", "many"])
def test_float32_is_exact(config: VisionConfig) -> None:
    want = truth(weights(config), config, pictures(config))
    got = features(packed(weights(config), config, "F32"), pictures(config))
    assert got.dtype == np.float32
    assert np.abs(got - want).max() <= 2e-6 * np.abs(want).max()


@pytest.mark.parametrize("outliers", [0, 8])
@pytest.mark.parametrize("config", [SMALL, MANY], ids=["small", "many"])
def test_int8_passes_the_gate(config: VisionConfig, outliers: int) -> None:
    w = weights(config, outliers)
    got = features(packed(w, config, "INT8"), pictures(config))
    assert cosines(got, truth(w, config, pictures(config))).min() >= GATE


def test_the_gate_would_see_a_coarser_tower() -> None:
    """Weights rounded to six bits do not pass."""
    w = dict(weights(SMALL, 8))
    for name, values in w.items():
        if values.ndim == 2:
            unit = np.abs(values).max(-1, keepdims=True) / 31
            w[name] = (np.rint(values / unit) * unit).astype(np.float32)
    got = features(packed(w, SMALL, "F32"), pictures(SMALL))
    assert cosines(got, truth(weights(SMALL, 8), SMALL, pictures(SMALL))).min() < GATE


@pytest.mark.parametrize("element", ["F32", "INT8"])
@pytest.mark.parametrize("form", ["F16", "BF16", "Q8_0"])
def test_formats_of_files(form: str, element: str) -> None:
    """A file's bytes give what the values that they stand for give."""
    rng, fmt = np.random.default_rng(1), FORMATS[form]
    raw = encode(fmt, rng.standard_normal((40, 64), np.float32)).reshape(-1)
    bias, x = rng.standard_normal(40, np.float32), rng.standard_normal((13, 64), np.float32)
    plain = encode(FORMATS["F32"], decode(fmt, raw, 40, 64)).reshape(-1)
    got, want = (
        through(pack_linear(team(), WeightMemory(), f, bytes_, 40, 64, bias, element), x)
        for f, bytes_ in ((fmt, raw), (FORMATS["F32"], plain))
    )
    np.testing.assert_array_equal(got, want)
    exact = x @ decode(fmt, raw, 40, 64).T.astype(np.float64) + bias
    assert np.abs(got - exact).max() <= (1e-5 if element == "F32" else 0.02) * np.abs(exact).max()


def through(linear: TowerLinear, x: np.ndarray) -> np.ndarray:
    """x W^T + bias by `merge`, as if x had been patches of one picture."""
    ops = NumbaOps()
    ops.stage(picture_step(1, len(x)))
    return ops.merge(np.zeros((len(x), linear.rows), np.float32), x, linear, None)


def test_an_element_that_there_is_not() -> None:
    with pytest.raises(ValueError, match="INT8 or F32, not in INT4"):
        pack_linear(team(), WeightMemory(), FORMATS["F32"], np.zeros(16, np.uint8), 2, 2, None, "INT4")


@pytest.mark.parametrize("config", [SMALL, ODD, MANY], ids=["small", "odd", "many"])
@pytest.mark.parametrize("element", ["F32", "INT8"])
def test_company_changes_no_bit(config: VisionConfig, element: str) -> None:
    tower, several = packed(weights(config, 8), config, element), pictures(config)
    together = features(tower, several)
    alone = np.concatenate([features(tower, picture[None]) for picture in several[::-1]][::-1])
    np.testing.assert_array_equal(together, alone)


def test_threads_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    tower, found = packed(weights(MANY, 8), MANY, "INT8"), []
    before = team().threads
    try:
        for threads in (1, 2, 3):
            machine.prepare(threads)
            found.append(features(tower, pictures(MANY)[:1]))
    finally:
        machine.prepare(before)
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


def test_more_patches_than_go_together() -> None:
    assert MANY.patches > TOGETHER


@pytest.mark.parametrize("element", ["F32", "INT8"])
def test_nan_is_not_lost(element: str) -> None:
    several = pictures(SMALL)
    several[1, 0, 5, 5] = np.nan
    out = features(packed(weights(SMALL), SMALL, element), several).reshape(3, -1)
    assert np.isnan(out[1]).all()
    assert np.isfinite(out[[0, 2]]).all()


def test_a_damaged_weight_is_not_lost() -> None:
    w = {name: values.copy() for name, values in weights(SMALL).items()}
    w["1.k"][3, 3] = np.nan
    assert np.isnan(features(packed(w, SMALL, "INT8"), pictures(SMALL))).all()


@pytest.mark.parametrize("step", [pack([[1, 2, 3, 4]]), pack([[1, 2], [3]])], ids=["text", "two lengths"])
def test_only_whole_pictures_go_without_pages(step: object) -> None:
    ops, x = NumbaOps(), np.zeros((4, 16), np.float32)
    with pytest.raises(UnsupportedModelError, match="whole pictures"):
        ops.attend(x, x, x, None, ops.stage(step), Attention(None, 1.0, 16))


def test_what_waits_can_be_looked_at() -> None:
    """A projection and its GELU are computed when somebody asks."""
    rng, ops = np.random.default_rng(2), NumbaOps("F32")
    x, gain, bias = (
        rng.standard_normal((9, 32), np.float32),
        np.ones(32, np.float32),
        np.zeros(32, np.float32),
    )
    w = rng.standard_normal((24, 32), np.float32)
    added = rng.standard_normal(24, np.float32)
    linear = pack_linear(
        team(), WeightMemory(), FORMATS["F32"], encode(FORMATS["F32"], w).reshape(-1), 24, 32, added, "F32"
    )
    step = ops.stage(picture_step(1, 9))
    (waiting,) = ops.project(x, Gain(gain, 1e-6, bias), (linear,))
    h = torch.nn.functional.layer_norm(torch.from_numpy(x), (32,), eps=1e-6) @ torch.from_numpy(w).T
    h = h + torch.from_numpy(added)
    np.testing.assert_allclose(waiting.computed(step), h, rtol=1e-4, atol=1e-4)
    want = torch.nn.functional.gelu(h, approximate="tanh")
    np.testing.assert_allclose(ops.gelu(waiting).computed(step), want, rtol=1e-4, atol=1e-4)


CHILD = """
import sys
from tests.ops.numba.test_tower import bits
print(bits(sys.argv[1]))
"""


def bits(element: str) -> str:
    """What a tower says, in short, and on which path."""
    out = features(packed(random_weights(ODD, 64, 2), ODD, element), pictures(ODD)[:1])
    return f"{path()} {hashlib.sha256(out.tobytes()).hexdigest()}"


def test_threads_that_share_one_heap_do_not_share_what_they_hold() -> None:
    """glibc gives threads heaps of their own, which hides what is used after it was given back."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, "INT8"], cwd=ROOT, env={**os.environ, "MALLOC_ARENA_MAX": "1"},
        text=True, capture_output=True, timeout=300,
    )  # fmt: skip
    assert done.stdout.strip() == bits("INT8"), done.stderr


@pytest.mark.parametrize(
    "forced",
    [
        "avx2",
        "avx-vnni",
        "generic",
    ],
)
@pytest.mark.long
@pytest.mark.parametrize("element", ["INT8", "F32"])
def test_every_path_gives_the_same_bits(forced: str, element: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, element], cwd=ROOT, env={**os.environ, "GEMMARY_CPU": forced},
        text=True, capture_output=True, timeout=300,
    )  # fmt: skip
    if "this processor cannot run that" in done.stderr:
        pytest.skip(f"no {forced} here")
    assert done.stdout.split()[-2:] == [forced, bits(element).split()[1]], done.stderr


@pytest.mark.long
@pytest.mark.parametrize("outliers", [0, 8])
@pytest.mark.parametrize("picture", PICTURES)
def test_the_gate_at_the_true_shape(picture: str, outliers: int) -> None:
    config = VisionConfig()
    w = random_weights(config, 2560, outliers)
    pixels = PICTURES[picture](config.image)[None]
    got = features(packed(w, config, "INT8", "BF16"), pixels)
    assert cosines(got, truth(w, config, pixels, torch.float32)).min() >= GATE
