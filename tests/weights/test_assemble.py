"""A running model holds its weights as the file does: nothing is expanded behind the user's back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gemmary.config import Config
from gemmary.formats import FORMATS
from gemmary.weights.assemble import LINEARS, packed_text
from gemmary.weights.checkpoint import open_checkpoint
from gemmary.weights.names import expected_shapes, is_norm
from gemmary.weights.save import write_gguf
from gemmary.weights.tensor import Tensor
from tests.parity.ggufs import vocabulary

SIZES = Config("custom", 4096, 1024, 6, 4, 1, 256, 3072, 64, 512, 256)
ONE_MATRIX = 4 * SIZES.width * SIZES.ffn  # bytes of a feed-forward matrix as float32
OTHER = 4_000_000
# Loads the file, uses every weight, and prints the growth of memory that no file backs.
CHILD = """
import sys
import gemmary

def anonymous():
    for line in open("/proc/self/status"):
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024

def answered(path):
    model = gemmary.load(path, context=256)
    model.generate([2, 300, 301], max_tokens=2)
    return model

warm = answered(sys.argv[1])  # kernels are compiled and loaded
before = anonymous()
model = answered(sys.argv[2])
print(anonymous() - before)
"""


def random_file(path: Path, form: str, config: Config) -> None:
    """Random codes, norms of 1."""
    rng = np.random.default_rng(0)
    tensors = {}
    for name, shape in expected_shapes(config).items():
        kind = FORMATS["F32"] if is_norm(name) else FORMATS[form]
        rows, columns = (1, shape[0]) if len(shape) == 1 else shape
        raw = rng.integers(0, 32, rows * kind.row_bytes(columns), np.uint8)
        if is_norm(name):
            raw = np.ones(columns, np.float32).view(np.uint8)
        tensors[name] = Tensor(name, shape, kind, raw)
    write_gguf(path, config, tensors, vocabulary(config.vocab))


@pytest.mark.parametrize("form", [name for name in FORMATS if name != "F32"])
def test_memory_is_the_files(form: str, tmp_path: Path) -> None:
    small = Config("custom", 512, 256, 1, 2, 1, 128, 256, 64, 512, 128)
    random_file(tmp_path / "small.gguf", form, small)
    random_file(tmp_path / "large.gguf", form, SIZES)
    command = [sys.executable, "-c", CHILD, tmp_path / "small.gguf", tmp_path / "large.gguf"]
    grown = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    size = (tmp_path / "large.gguf").stat().st_size
    print(f"{form}: file {size / 1e6:.0f} MB, memory beside it {grown / 1e6:.1f} MB")
    assert grown <= ONE_MATRIX, "a matrix was expanded to floats"
    assert size + grown <= 1.1 * size + OTHER  # pages and tokenizer are the same for every format


def test_weights_are_the_mapped_bytes(tmp_path: Path) -> None:
    random_file(tmp_path / "model.gguf", "Q4_0", SIZES)
    checkpoint = open_checkpoint(tmp_path / "model.gguf")
    text = packed_text(checkpoint)
    for i, layer in enumerate(text.layers):
        for name in LINEARS:
            raw = checkpoint.tensors[f"layers.{i}.{name}"].raw
            assert np.shares_memory(getattr(layer, name).raw, raw)
    assert np.shares_memory(text.table.raw, checkpoint.tensors["embed"].raw)
