"""GGUF files against llama.cpp: the same file, the same text, each engine's distance to float32.

float32 is our reference on the dequantised weights. Needs an interpreter that has `llama_cpp`: this one, or
the one that the environment variable GEMMARY_LLAMA_PYTHON names.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from gemmary.formats import FORMATS
from gemmary.weights.assemble import packed_text
from gemmary.weights.checkpoint import open_checkpoint

from .decoding import Decoding, cpu, reference
from .ggufs import quantized_copy
from .sharp import Kind, distance, saved, text_ids

WORKER = Path(__file__).with_name("llama_worker.py")
LENGTH = 200  # several windows
ENCODED = ("F16", "Q8_0", "Q4_0")  # formats that we write
MIXED = ("Q4_K_M", "Q5_K_M", "Q6_K")  # mixtures that llama.cpp writes
PAGES = "F16"  # what a model keeps keys and values in unless asked for float32
SLACK = 1.1  # how much further from float32 than llama.cpp we may be
SEEDS = range(5)  # fewer make the ratio of two equal roundings jump by a tenth
KINDS = (
    Kind("1b-like", 7, 4, 1, 64, window=33, query_scalar=64, factor=1.0, width=256, ffn=512),
    Kind("4b-like", 8, 4, 2, 128, window=64, query_scalar=128, factor=8.0, width=256, ffn=512),
)
# llama.cpp knows 27B by its 62 layers, and then scales queries by (width / heads)^-0.5.
LIKE_27B = Kind("27b-like", 62, 8, 4, 32, window=48, query_scalar=12, factor=8.0, width=96, ffn=160)


def interpreter() -> str | None:
    """A Python that has llama_cpp."""
    named = os.environ.get("GEMMARY_LLAMA_PYTHON")
    return named or (sys.executable if importlib.util.find_spec("llama_cpp") else None)


pytestmark = pytest.mark.skipif(
    interpreter() is None, reason="no llama_cpp here: name a Python that has it in GEMMARY_LLAMA_PYTHON"
)


def run_llama(jobs: list[list[str]], folder: Path) -> None:
    """Have llama.cpp do jobs of llama_worker.py."""
    path = folder / "jobs.json"
    path.write_text(json.dumps(jobs))
    result = subprocess.run([str(interpreter()), str(WORKER), str(path)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-4000:]


@dataclass(frozen=True)
class Answers:
    """Logits [T, V] of one file: float32, llama.cpp's and ours."""

    truth: np.ndarray
    llama: np.ndarray
    ours: np.ndarray


def answers(kind: Kind, seed: int, formats: Iterable[str], folder: Path) -> dict[str, Answers]:
    """All three engines on one random model in several formats."""
    saved(kind, folder / "hf", seed)
    ids = text_ids(LENGTH, seed=100 + seed)
    np.save(folder / "ids.npy", np.array(ids))
    jobs = []
    quantized_copy(folder / "hf", folder / "F32.gguf", FORMATS["F32"])
    for name in formats:
        path = folder / f"{name}.gguf"
        if name in MIXED:
            jobs.append(["quantize", str(folder / "F32.gguf"), str(path), name])
        else:
            quantized_copy(folder / "hf", path, FORMATS[name])
        jobs.append(["logits", str(path), str(folder / "ids.npy"), str(folder / f"{name}.npy")])
    run_llama(jobs, folder)
    return {name: _answers(folder / f"{name}.gguf", folder / f"{name}.npy", ids) for name in formats}


def _answers(path: Path, logits: Path, ids: list[int]) -> Answers:
    truth = reference(path, exact_scale=True).run(ids, (LENGTH,))
    return Answers(truth, np.load(logits), cpu(path, exact_scale=True, pages=PAGES).run(ids, (LENGTH,)))


def divergence(truth: np.ndarray, logits: np.ndarray) -> float:
    """Mean KL(truth || logits) per token, in nats."""
    p, q = (np.asarray(x, np.float64) for x in (truth, logits))
    p, q = (x - x.max(-1, keepdims=True) for x in (p, q))
    p, q = (x - np.log(np.exp(x).sum(-1, keepdims=True)) for x in (p, q))
    return float((np.exp(p) * (p - q)).sum(-1).mean())


def rms(truth: np.ndarray, logits: np.ndarray) -> float:
    """Root mean square of the logits' differences."""
    return float(np.sqrt(np.square(np.asarray(logits, np.float64) - truth).mean()))


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_float_files_mean_the_same(kind: Kind, tmp_path: Path) -> None:
    """Structure: window, rotary scaling. llama.cpp's GELU reads a table of halves, hence the bound."""
    found = answers(kind, 0, ["F32"], tmp_path)["F32"]
    gap = distance(found.ours, found.llama)
    print(f"{kind.name}: {gap:.1e} of the logit range")
    assert gap <= 2e-3


@pytest.mark.long
def test_query_scale_of_27b(tmp_path: Path) -> None:
    """62 sharp layers amplify llama.cpp's rounding, but another scale is much further away."""
    llama = answers(LIKE_27B, 0, ["F32"], tmp_path)["F32"].llama
    gaps = {scalar: rms(llama, _scaled(tmp_path / "F32.gguf", scalar)) for scalar in (12, 13, 32)}
    print(gaps)
    assert gaps[12] < min(gaps[13], gaps[32]) / 3


def _scaled(path: Path, query_scalar: float) -> np.ndarray:
    checkpoint = open_checkpoint(path, exact_scale=True)
    config = replace(checkpoint.config, query_scalar=query_scalar)
    decoder = packed_text(replace(checkpoint, config=config))
    return Decoding(decoder, config).run(text_ids(LENGTH, seed=100), (LENGTH,))


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_no_further_from_float32_than_llama_cpp(kind: Kind, tmp_path: Path) -> None:
    """Mean KL and RMS over seeds, format by format."""
    formats = (*ENCODED, *MIXED)
    runs = []
    for seed in SEEDS:
        folder = tmp_path / str(seed)
        folder.mkdir()
        runs.append(answers(kind, seed, formats, folder))
    worse = []
    for name in formats:
        for measure in (divergence, rms):
            ours, llama = (
                np.mean([measure(run[name].truth, getattr(run[name], who)) for run in runs])
                for who in ("ours", "llama")
            )
            line = f"{kind.name} {name:6} {measure.__name__:10} ours {ours:.2e} llama.cpp {llama:.2e}"
            print(f"{line} ratio {ours / llama:.2f}")
            if ours > SLACK * llama:
                worse.append(line)
    assert not worse, "\n".join(worse)
