"""From a source to a model: what may be given, and what is said when it cannot be used."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gemmary
from gemmary.errors import GemmaryError, ModelFileError, PromptError, UnsupportedModelError
from gemmary.formats import FORMATS
from gemmary.inputs.sentencepiece_model import write_model
from gemmary.inputs.vocabulary import Vocabulary
from gemmary.weights.checkpoint import open_checkpoint
from gemmary.weights.save import write_gguf
from gemmary.weights.tensor import Tensor
from tests.parity.ggufs import vocabulary
from tests.parity.sharp import VOCAB, text_ids

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"device": "gpu"}, PromptError, '"auto", "cpu" or "torch"'),
        ({"device": None}, PromptError, "device"),
        ({"device": "cuda"}, UnsupportedModelError, 'device="cpu"'),
        ({"dtype": "bfloat16"}, PromptError, "float32"),
        ({"adapter": "lora"}, UnsupportedModelError, "adapter"),
        ({"threads": 0}, PromptError, "threads"),
        ({"context": 0}, PromptError, "context"),
        ({"cache": "int4"}, PromptError, 'cache must be "f16", "bf16", "f32" or "int8", not \'int4\''),
        ({"cache": ["f16"]}, PromptError, "cache must be"),
        ({"cache": "int8", "device": "torch"}, PromptError, "leave cache out"),
    ],
)
def test_bad_arguments_are_found_before_a_file_is_read(
    options: dict[str, Any], error: type[GemmaryError], says: str
) -> None:
    with pytest.raises(error, match=says):
        gemmary.load("/nowhere/model.gguf", **options)


@pytest.mark.parametrize("source", [5, b"model.gguf", ["model.gguf"], 2.5], ids=repr)
def test_a_source_that_is_no_path(source: Any) -> None:
    for call in (gemmary.load, gemmary.estimate):
        with pytest.raises(PromptError, match="source"):
            call(source)


def test_a_file_that_is_not_there() -> None:
    for source in ("/nowhere/model.gguf", Path("/nowhere"), "./nowhere/model.gguf"):
        with pytest.raises(ModelFileError, match="no such file"):
            gemmary.load(source)


@pytest.mark.parametrize("device", ["auto", "cpu", "torch"])
def test_devices(packed: Path, device: Any) -> None:
    with gemmary.load(str(packed), device=device, context=128, threads=1) as model:
        assert len(model.generate([5], max_tokens=3, seed=1).ids) == 3
        assert model.context == 128


def test_the_whole_context_of_the_model_is_the_default(packed: Path) -> None:
    with gemmary.load(packed) as model:
        assert model.context == model.config.context == 4096


def test_threads_do_not_change_the_text(packed: Path) -> None:
    texts = set()
    for threads in (1, 2, 64):
        with gemmary.load(packed, threads=threads, context=256) as model:
            texts.add(model.generate(text_ids(60), max_tokens=8, seed=1).ids)
    assert len(texts) == 1


def test_float32_expands_a_packed_file(packed: Path) -> None:
    """Weights are decoded, activations are not rounded: other bits, nearly the same numbers."""
    ids = text_ids(30)
    with gemmary.load(packed, context=128, threads=1) as a:
        rounded = a.logits(ids)
    with gemmary.load(packed, dtype="float32", context=128, threads=1) as b:
        expanded = b.logits(ids)
    with gemmary.load(packed, device="torch", context=128) as c:
        reference = c.logits(ids)
    assert (rounded != expanded).any()
    np.testing.assert_allclose(expanded, reference, atol=2e-3)


def test_a_folder_without_a_tokenizer(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "model")
    (copy / "tokenizer.model").unlink()
    with pytest.raises(ModelFileError, match=r"tokenizer\.model or tokenizer\.json"):
        gemmary.load(copy)
    assert gemmary.estimate(copy).weights > 0


def test_a_folder_with_a_broken_tokenizer(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "model")
    for content in (b"", b"\xff" * 100, (copy / "tokenizer.model").read_bytes()[:500]):
        (copy / "tokenizer.model").write_bytes(content)
        with pytest.raises(ModelFileError, match=r"tokenizer\.model"):
            gemmary.load(copy)


def test_a_tokenizer_of_another_model(folder: Path, tmp_path: Path) -> None:
    """Its ids would point behind the table."""
    copy = shutil.copytree(folder, tmp_path / "model")
    larger = vocabulary(VOCAB + 1)
    model = write_model(Vocabulary("test", larger.tokens, larger.types, larger.scores))
    (copy / "tokenizer.model").write_bytes(model)
    with pytest.raises(ModelFileError, match=r"513 tokens .* 512 rows"):
        gemmary.load(copy)


def test_a_tokenizer_with_more_control_tokens_than_rows(folder: Path, tmp_path: Path) -> None:
    """As Gemma's own: <image_soft_token> is one id behind the table of the text models."""
    copy = shutil.copytree(folder, tmp_path / "model")
    larger = vocabulary(VOCAB)
    tokens, types = [*larger.tokens, "<image_soft_token>"], [*larger.types, 3]
    model = write_model(Vocabulary("test", tokens, types, [*larger.scores, 0.0]))
    (copy / "tokenizer.model").write_bytes(model)
    with gemmary.load(copy, context=64, threads=1) as loaded:
        reply = loaded.chat([{"role": "user", "content": "abc"}], max_tokens=5, seed=1)
        assert len(reply.ids) == 5


def test_a_gguf_with_a_broken_vocabulary(folder: Path, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(folder)
    tensors = {
        name: Tensor.pack(
            name, checkpoint.tensors[name].values(), FORMATS["F32"], checkpoint.tensors[name].gain_offset
        )
        for name in checkpoint.tensors
    }
    good = tmp_path / "good.gguf"
    write_gguf(good, checkpoint.config, tensors, vocabulary(VOCAB))
    gemmary.load(good, context=64, threads=1).close()
    whole = good.read_bytes()
    assert whole.count(b"<0x41>") == 1
    for old, new in ((b"<0x41>", b"<0x42>"), (b"<0x41>", b"\xff\xfe\xfd\xfc\xfb\xfa")):
        (tmp_path / "bad.gguf").write_bytes(whole.replace(old, new))
        with pytest.raises(ModelFileError, match=r"bad\.gguf"):
            gemmary.load(tmp_path / "bad.gguf")


def test_failed_loads_leave_no_thread_behind(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = threading.active_count()
    for _ in range(3):
        with pytest.raises(GemmaryError):
            gemmary.load(packed, context=5000)
    for _ in range(3):
        gemmary.load(packed, context=64, threads=1).close()
    assert threading.active_count() <= before


def test_without_torch_only_the_reference_is_missing(packed: Path) -> None:
    """And a chat on the CPU never asks for it: with it installed, it stays out of the process."""
    script = f"""
import sys
import gemmary
assert not {{"torch", "numba", "numpy"}} & set(sys.modules), "import gemmary is not light"
with gemmary.load({str(packed)!r}, context=128, threads=1) as model:
    model.chat([{{"role": "user", "content": "abc"}}], max_tokens=3, seed=1, logprobs=2)
    list(model.generate("abc", stream=True, max_tokens=3, temperature=0))
    model.score("abc", "d")
assert not {{"torch", "transformers"}} & set(sys.modules), "torch was imported"
sys.modules["torch"] = None
try:
    gemmary.load({str(packed)!r}, device="torch")
except gemmary.errors.UnsupportedModelError as fault:
    assert "PyTorch" in str(fault)
else:
    raise SystemExit("loaded without torch")
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
