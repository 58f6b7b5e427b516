"""Models that were quantized or converted, in the programs that people run them with."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from gemmary.inputs.sentencepiece_model import write_model
from gemmary.inputs.tokenizer import Tokenizer
from gemmary.inputs.vocabulary import Vocabulary
from gemmary.weights.requantize import convert, quantize
from tests.inputs import trained
from tests.inputs.test_tokenizer import CORNERS
from tests.weights.models import model

from .decoding import reference
from .ggufs import vocabulary
from .sharp import VOCAB, Kind, distance, saved, text_ids
from .test_llama_cpp import divergence, interpreter, run_llama

LENGTH = 200
KIND = Kind("converted", 7, 4, 1, 64, window=33, query_scalar=64, factor=1.0, width=256, ffn=512)
NARROW = Kind("narrow", 7, 4, 2, 32, window=33, query_scalar=32, factor=8.0, width=96, ffn=200)
# What llama.cpp may lose by rounding what it multiplies weights with: KL(float32 of the file || llama.cpp).
# Another scale or another order of the rows would cost hundreds of times as much.
FORMS = {
    ("q4_0", None): 2e-2, ("int4", "q6_k"): 2e-2, ("q8_0", "q6_k"): 2e-2, ("q8_0", "f16"): 2e-2,
    ("f16", None): 1e-4, ("bf16", None): 2e-3,
}  # fmt: skip


def source(kind: Kind, folder: Path, tokenizer: bytes, size: int) -> Path:
    saved(kind, folder, vocab_size=size)
    (folder / "tokenizer.model").write_bytes(tokenizer)
    return folder


@pytest.mark.long
@pytest.mark.skipif(
    interpreter() is None, reason="no llama_cpp: name a Python that has it in GEMMARY_LLAMA_PYTHON"
)
def test_llama_cpp_runs_every_format(tmp_path: Path) -> None:
    """Its logits are those of the file, and its ids are ours."""
    folder = source(KIND, tmp_path / "hf", model(), 1500)
    ids = text_ids(LENGTH)
    np.save(tmp_path / "ids.npy", np.array(ids))
    jobs = []
    for body, table in FORMS:
        path = tmp_path / f"{body}-{table}.gguf"
        quantize(folder, path, body, table)
        jobs.append(["logits", str(path), str(tmp_path / "ids.npy"), str(path.with_suffix(".npy"))])
    texts = [text for text in [*CORNERS, *trained.sources()] if "▁" not in text]  # a space to SentencePiece
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    jobs.append(["tokenize", str(path), str(tmp_path / "texts.json"), str(tmp_path / "out.json")])
    run_llama(jobs, tmp_path)
    for (body, table), bound in FORMS.items():
        path = tmp_path / f"{body}-{table}.gguf"
        truth = reference(path, exact_scale=True).run(ids, (LENGTH,))
        found = divergence(truth, np.load(path.with_suffix(".npy")))
        print(f"{body} {table}: KL {found:.1e}")
        assert found < bound
    ours = Tokenizer.from_model(model())
    theirs = json.loads((tmp_path / "out.json").read_text())
    different = [text for text, found in zip(texts, theirs, strict=True) if found != ours.encode(text)]
    assert different == []


@pytest.mark.long
@pytest.mark.skipif(
    interpreter() is None, reason="no llama_cpp: name a Python that has it in GEMMARY_LLAMA_PYTHON"
)
def test_six_bits_lose_no_more_than_those_of_llama_cpp(tmp_path: Path) -> None:
    folder = source(KIND, tmp_path / "hf", model(), 1500)
    convert(folder, tmp_path / "f32.gguf", "f32")
    run_llama([["quantize", str(tmp_path / "f32.gguf"), str(tmp_path / "llama.gguf"), "Q6_K"]], tmp_path)
    quantize(folder, tmp_path / "ours.gguf", "q8_0", "q6_k")
    names = ("f32", "ours", "llama")
    truth, ours, llama = (_table(tmp_path / f"{name}.gguf") for name in names)
    print(f"ours {np.square(ours - truth).mean():.4e} llama.cpp {np.square(llama - truth).mean():.4e}")
    assert np.square(ours - truth).mean() <= 1.01 * np.square(llama - truth).mean()


def _table(path: Path) -> np.ndarray:
    found = next(t for t in gguf.GGUFReader(path).tensors if t.name == "token_embd.weight")
    return np.asarray(gguf.dequantize(found.data, found.tensor_type))


@pytest.mark.parametrize("body", ["q8_0", "int4"])
@pytest.mark.parametrize("kind", [NARROW], ids=lambda kind: kind.name)
def test_transformers_runs_a_converted_file(tmp_path: Path, kind: Kind, body: str) -> None:
    """GGUF -> folder: the logits are those of the folder's numbers, and of the file's."""
    pieces = vocabulary(VOCAB)
    tokenizer = write_model(Vocabulary("test", pieces.tokens, pieces.types, pieces.scores))
    folder = source(kind, tmp_path / "hf", tokenizer, VOCAB)
    quantize(folder, tmp_path / "a.gguf", body, "q8_0")
    convert(tmp_path / "a.gguf", tmp_path / "out", "f32")
    ids = text_ids(LENGTH)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto", attn_implementation="eager")
    with torch.no_grad():
        want = theirs(torch.tensor([ids])).logits[0].numpy()
    assert theirs.dtype == torch.float32
    assert distance(reference(tmp_path / "out").run(ids, (LENGTH,)), want) < 1e-5
    assert distance(reference(tmp_path / "a.gguf", exact_scale=True).run(ids, (LENGTH,)), want) < 1e-5
    before = reference(folder).run(ids, (LENGTH,))
    assert 1e-5 < divergence(before, want) < 1.0  # it is the quantized model, and a model still
