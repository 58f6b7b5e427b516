"""Operations are those that torch counts, and those that a mask lets through."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from gemmary.config import GEMMA3_1B, VisionConfig
from gemmary.model.modules import TextModule
from gemmary.model.vision_modules import TowerModule
from gemmary.ops.reference import Reference
from gemmary.train import flops
from gemmary.train.packing import Document, pack_rows
from tests.train import toys

LENGTH = 24
TOWER = VisionConfig(width=32, layers=2, heads=4, ffn=48, image=56, patch=14, tokens=4)


def counted(forward: object, backward: bool = True) -> tuple[int, int]:
    """What torch counts of a forward pass and its gradients: in attention (batched products), elsewhere."""
    with FlopCounterMode(display=False) as counter:
        result = forward()  # type: ignore[operator]
        if backward:
            result.square().sum().backward()
    counts = {str(name): count for name, count in counter.get_flop_counts()["Global"].items()}
    attention = sum(count for name, count in counts.items() if "bmm" in name)
    return attention, sum(counts.values()) - attention


def seen(length: int, window: int | None) -> int:
    """Pairs that a mask lets through, one by one."""
    return sum(
        key <= query and (window is None or query - key < window)
        for query in range(length)
        for key in range(length)
    )


def test_text_is_what_torch_counts_with_the_masked_pairs_left_out() -> None:
    model = TextModule(toys.TOY, Reference())
    step, _, _ = pack_rows([Document([1] * LENGTH, [1.0] * LENGTH)], LENGTH).step()
    whole = replace(step, rows=np.arange(LENGTH, dtype=np.int32))
    attention, rest = counted(lambda: model(whole) @ model.table.weight.T)
    layers = [None if toys.TOY.is_global(layer) else toys.TOY.window for layer in range(toys.TOY.layers)]
    share = sum(seen(LENGTH, window) for window in layers) / (len(layers) * LENGTH**2)
    assert flops.text(toys.TOY, [LENGTH]) == pytest.approx(rest + share * attention, rel=1e-12)


def test_documents_do_not_see_each_other() -> None:
    apart = sum(flops.text(toys.TOY, [length]) for length in (5, 19, 8))
    assert flops.text(toys.TOY, (5, 19, 8)) == apart < flops.text(toys.TOY, [32])


@pytest.mark.parametrize(("length", "window"), [(1, None), (7, None), (7, 7), (7, 9), (20, 6), (1, 1)])
def test_pairs(length: int, window: int | None) -> None:
    assert flops.pairs(length, window) == seen(length, window)


@pytest.mark.parametrize("trained", [False, True])
def test_a_tower_is_what_torch_counts(trained: bool) -> None:
    tower = TowerModule(TOWER, 16, Reference())
    passes = 3 if trained else 1
    projector = 2 * TOWER.tokens * TOWER.width * 16
    found = counted(lambda: tower(np.zeros((1, 3, 56, 56), np.float32)), backward=trained)
    assert flops.tower(TOWER, trained) == sum(found) - passes * projector


def test_a_token_of_1b_costs_what_the_formula_of_the_literature_says() -> None:
    """6 N for the weights; attention adds a few percent at 4k tokens, where local layers see 512."""
    token = flops.text(GEMMA3_1B, [4096]) / 4096
    assert 1.02 < token / (6 * GEMMA3_1B.parameters) < 1.06


@pytest.mark.parametrize(
    ("name", "tera"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H200", 989),
        ("NVIDIA GH200 480GB", 989),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA L4", 121),
        ("NVIDIA L40S", 362),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("NVIDIA GeForce RTX 3090", None),
    ],
)
def test_the_peak_of_a_device(monkeypatch: pytest.MonkeyPatch, name: str, tera: int | None) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    assert flops.peak(torch.device("cuda")) == (None if tera is None else tera * 1e12)


def test_nobody_promises_a_peak_of_a_processor() -> None:
    assert flops.peak(torch.device("cpu")) is None
