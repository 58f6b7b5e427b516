"""mmproj files against llama.cpp: the same file, the same pixels, each encoder's distance to float32.

float32 is our reference on the dequantised weights. Needs llama_cpp, as test_llama_cpp.py does.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from gemmary.config import VisionConfig
from gemmary.formats import FORMATS
from gemmary.ops.reference import Reference
from gemmary.weights.assemble import module_tower
from gemmary.weights.savevision import pack_tower, write_mmproj
from gemmary.weights.synthetictower import synthetic_tower
from gemmary.weights.vision import open_vision

from .ggufs import quantized_copy
from .sharp import KINDS, distance, saved
from .test_llama_cpp import interpreter, run_llama

pytestmark = [
    pytest.mark.skipif(
        interpreter() is None, reason="no llama_cpp here: name a Python that has it in GEMMARY_LLAMA_PYTHON"
    ),
    pytest.mark.long,
]
EYES = (
    VisionConfig(width=64, layers=3, heads=4, ffn=160, image=112, patch=14, tokens=4),
    VisionConfig(width=288, layers=2, heads=4, ffn=430, image=64, patch=8, tokens=16, norm_eps=1e-3),
)
LIMITS = {"F32": 5e-4, "F16": 7e-4, "BF16": 5e-3, "Q8_0": 1.5e-2}  # llama.cpp's GELU reads a table of halves


def encoded(config: VisionConfig, form: str, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Features [n, tokens, width] of one mmproj file: ours in float32, and llama.cpp's."""
    kind = KINDS[0]
    saved(kind, folder / "hf")
    quantized_copy(folder / "hf", folder / "text.gguf", FORMATS["F32"])
    tower = synthetic_tower(config, 1, text_width=kind.width, format="F32")
    arrays = {name: tensor.values() for name, tensor in tower.tensors.items()}
    write_mmproj(folder / "mmproj.gguf", config, pack_tower(arrays, FORMATS[form]))
    pictures = np.random.default_rng(0).integers(0, 256, (2, config.image, config.image, 3), np.uint8)
    np.save(folder / "pictures.npy", pictures)
    names = ("text.gguf", "mmproj.gguf", "pictures.npy", "features.npy")
    run_llama([["encode", *(str(folder / name) for name in names)]], folder)
    pixels = (pictures.transpose(0, 3, 1, 2).astype(np.float32) / 255 - 0.5) / 0.5
    with torch.no_grad():
        ours = module_tower(open_vision(folder / "mmproj.gguf"), Reference())(np.ascontiguousarray(pixels))
    theirs = np.load(folder / "features.npy")
    return ours.numpy().reshape(theirs.shape), theirs


@pytest.mark.parametrize("form", LIMITS)
@pytest.mark.parametrize("config", EYES, ids=["64 wide", "288 wide"])
def test_same_file_same_pixels(config: VisionConfig, form: str, tmp_path: Path) -> None:
    ours, theirs = encoded(config, form, tmp_path)
    gap = distance(theirs, ours)
    print(f"{form}: {gap:.1e} of the range of the features")
    assert gap <= LIMITS[form]
