"""What is in the cache, and its removal."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import constants, scan_cache_dir

from gemmary.errors import GemmaryError
from gemmary.weights import hub
from gemmary.weights.library import cached_models, remove, size

from .test_hub import PLAIN, QAT, lay


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def fill(path: Path, data: bytes) -> None:
    path.resolve().write_bytes(data)


def gguf(architecture: str) -> bytes:
    """The shortest GGUF: an architecture, no tensors."""
    key, value = b"general.architecture", architecture.encode()
    head = b"GGUF" + (3).to_bytes(4, "little") + bytes(8) + (1).to_bytes(8, "little")
    pair = len(key).to_bytes(8, "little") + key + (8).to_bytes(4, "little")
    return head + pair + len(value).to_bytes(8, "little") + value


def test_an_empty_or_missing_cache(cache: Path) -> None:
    assert cached_models() == []


def test_gemma_3_and_nothing_else_is_listed(cache: Path) -> None:
    folder = lay(cache, QAT, "gemma-3-4b-it-q4_0.gguf", "mmproj-model-f16-4B.gguf")
    fill(folder / "gemma-3-4b-it-q4_0.gguf", gguf("gemma3"))
    plain = lay(cache, PLAIN, "config.json", "model.safetensors")
    fill(plain / "config.json", b'{"model_type": "gemma3"}')
    fill(lay(cache, "org/llama", "llama-Q4_0.gguf") / "llama-Q4_0.gguf", gguf("llama"))
    fill(
        lay(cache, "org/bert", "config.json", "model.safetensors") / "config.json", b'{"model_type": "bert"}'
    )
    lay(cache, "org/broken", "broken.gguf")
    found = {model.name: model for model in cached_models()}
    assert found.keys() == {QAT, f"{PLAIN}:bf16"}
    assert found[QAT].format == "Q4_0" and found[QAT].bytes == len(gguf("gemma3"))
    assert found[f"{PLAIN}:bf16"].bytes == len(b'{"model_type": "gemma3"}') + len("model.safetensors")


def test_every_listed_name_leads_to_its_model(cache: Path) -> None:
    names = ("g-Q4_K_M.gguf", "g-Q8_0.gguf")
    folder = lay(cache, "org/many", *names)
    for name in names:
        fill(folder / name, gguf("gemma3"))
    plain = lay(cache, PLAIN, "config.json", "model.safetensors")
    fill(plain / "config.json", b'{"model_type": "gemma3"}')
    models = cached_models()
    assert {model.name for model in models} == {f"{PLAIN}:bf16", "org/many:q4_k_m", "org/many:q8_0"}
    assert [hub.locate(model.name) for model in models] == [model.path for model in models]


def test_an_unfinished_download_is_listed_as_such(cache: Path) -> None:
    blobs = cache / f"models--{QAT.replace('/', '--')}/blobs"
    blobs.mkdir(parents=True)
    (blobs / "abc.incomplete").write_bytes(b"1234")
    (model,) = cached_models()
    assert (model.name, model.path, model.bytes, model.format) == (QAT, None, 4, "unfinished")


def test_removal_leaves_the_others_and_a_sound_cache(cache: Path) -> None:
    lay(cache, "org/stays", "a.gguf")
    lay(cache, QAT, "a.gguf", "b.gguf")
    lay(cache, QAT, "a.gguf", commit="f" * 40)
    assert size(QAT) > 0
    remove(QAT)
    assert size(QAT) == 0 and not hub.storage(QAT).exists()
    left = scan_cache_dir(cache)
    assert [repo.repo_id for repo in left.repos] == ["org/stays"] and not left.warnings


def test_removal_of_an_unfinished_download(cache: Path) -> None:
    blobs = hub.storage(QAT) / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "abc.incomplete").write_bytes(b"1234")
    remove(QAT)
    assert not hub.storage(QAT).exists()


def test_removal_of_what_is_not_there(cache: Path) -> None:
    with pytest.raises(GemmaryError, match="is not in the cache; `gemmary list` shows what is"):
        remove("org/nothing")
