"""A running model holds its weights once, as tightly as the file: nothing is expanded or kept twice."""

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
OTHER = 6_000_000  # pages of texts, tokenizer, scratch, and memory that the system hands out in large pages
LONG = ("Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "BF16")
# Loads the file, uses every weight, and prints how the process grew: memory of its own, and mapped pages.
CHILD = """
import sys
import gemmary

def held():
    found = dict(line.split(":") for line in open("/proc/self/status"))
    return [int(found[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile")]

def answered(path):
    model = gemmary.load(path, context=256)
    model.generate([2, 300, 301], max_tokens=2)
    return model

warm = answered(sys.argv[1])  # kernels are compiled and loaded
before = held()
model = answered(sys.argv[2])
print(*(after - earlier for after, earlier in zip(held(), before)))
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


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="the system does not say what a process holds"
)
@pytest.mark.parametrize(
    "form", ["Q4_0", "F16", *(pytest.param(name, marks=pytest.mark.long) for name in ("Q8_0", "Q6_K", *LONG))]
)
def test_memory_is_the_files(form: str, tmp_path: Path) -> None:
    small = Config("custom", 512, 256, 1, 2, 1, 128, 256, 64, 512, 128)
    random_file(tmp_path / "small.gguf", form, small)
    random_file(tmp_path / "large.gguf", form, SIZES)
    command = [sys.executable, "-c", CHILD, tmp_path / "small.gguf", tmp_path / "large.gguf"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    own, mapped = map(int, done.stdout.split())
    size = (tmp_path / "large.gguf").stat().st_size
    print(f"{form}: file {size / 1e6:.0f} MB, own memory {own / 1e6:.1f} MB, mapped {mapped / 1e6:.1f} MB")
    assert own + mapped <= 1.1 * size + OTHER
    assert own + mapped >= 0.9 * size, "not every weight was used"


def test_packed_weights_stay_readable_as_the_file_has_them(tmp_path: Path) -> None:
    """Embedding rows are fetched from the file's bytes, whose pages were given back."""
    random_file(tmp_path / "model.gguf", "Q4_0", SIZES)
    checkpoint = open_checkpoint(tmp_path / "model.gguf")
    kept = {name: tensor.raw.copy() for name, tensor in checkpoint.tensors.items()}
    text = packed_text(checkpoint)
    linears = {
        f"layers.{i}.{name}": getattr(layer, name) for i, layer in enumerate(text.layers) for name in LINEARS
    }
    for name, weight in {"embed": text.table, **linears}.items():
        raw = checkpoint.tensors[name].raw
        assert np.shares_memory(weight.raw, raw), "no second copy of the file's bytes"
        assert not np.shares_memory(weight.strips, raw)
        np.testing.assert_array_equal(raw, kept[name])


def test_floats_are_the_mapped_bytes(tmp_path: Path) -> None:
    random_file(tmp_path / "model.gguf", "F16", SIZES)
    checkpoint = open_checkpoint(tmp_path / "model.gguf")
    text = packed_text(checkpoint)
    assert text.table.strips is None
    assert np.shares_memory(text.table.raw, checkpoint.tensors["embed"].raw)
