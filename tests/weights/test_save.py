from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import safetensors
import torch
from transformers import AutoModelForCausalLM

from gemmary.errors import GemmaryError, UnsupportedModelError
from gemmary.formats import FORMATS
from gemmary.weights.checkpoint import open_checkpoint
from gemmary.weights.names import is_norm, to_gguf, to_huggingface
from gemmary.weights.save import write_folder, write_gguf, write_safetensors
from gemmary.weights.tensor import Tensor
from gemmary.weights.vocabulary import Vocabulary

from . import seeds
from .seeds import TINY, attempts, random_tensors, random_values, vocabulary

EXTRA = {
    "general.name": "Tiny",
    "tokenizer.chat_template": "{{ bos_token }} für alle",
    "general.parameter_count": (1 << 64) - 1,
    "general.offset": -7,
    "general.tags": ["a", "ü"],
    "general.truths": np.array([True, False]),
    "general.sizes": np.array([1, 2], np.uint16),
    "general.share": 0.25,
}


def save(folder: Path, format: str = "Q8_0", **changes: Any) -> Path:
    path = folder / "model.gguf"
    config = replace(TINY, **changes)
    write_gguf(path, config, random_tensors(config, format), vocabulary(TINY.vocab), EXTRA)
    return path


def test_gguf_package_reads_what_is_written(tmp_path: Path) -> None:
    reader = gguf.GGUFReader(save(tmp_path))
    assert reader.fields["GGUF.version"].contents() == 3
    expected = {
        "general.architecture": "gemma3", "general.type": "model", "general.quantization_version": 2,
        "general.file_type": 7, "gemma3.context_length": 64, "gemma3.embedding_length": 64,
        "gemma3.block_count": 2, "gemma3.feed_forward_length": 96, "gemma3.attention.head_count": 2,
        "gemma3.attention.head_count_kv": 1, "gemma3.attention.key_length": 32,
        "gemma3.attention.value_length": 32, "gemma3.attention.sliding_window": 8,
        "gemma3.attention.layer_norm_rms_epsilon": float(np.float32(1e-6)), "gemma3.rope.freq_base": 1e6,
        "gemma3.rope.scaling.type": "linear", "gemma3.rope.scaling.factor": 8.0,
        "gemma3.attention.sliding_window_pattern": 2, "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default", "tokenizer.ggml.bos_token_id": 2, "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.ggml.unknown_token_id": 3, "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.add_eos_token": False,
        "tokenizer.ggml.add_space_prefix": False, "tokenizer.ggml.tokens": vocabulary(48).tokens,
        "tokenizer.ggml.scores": vocabulary(48).scores.tolist(),
        "tokenizer.ggml.token_type": vocabulary(48).types.tolist(),
        **{key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in EXTRA.items()},
    }  # fmt: skip
    found = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    assert found == expected
    assert [tensor.name for tensor in reader.tensors] == [to_gguf(name) for name in random_tensors(TINY)]


@pytest.mark.parametrize("format", ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
def test_gguf_tensors_are_bitwise_what_was_given(tmp_path: Path, format: str) -> None:
    tensors = random_tensors(TINY, format)
    reader = gguf.GGUFReader(save(tmp_path, format))
    theirs = {tensor.name: tensor for tensor in reader.tensors}
    for name, tensor in tensors.items():
        their = theirs[to_gguf(name)]
        if is_norm(name):  # stored as 1 + w
            assert their.tensor_type.name == "F32"
            assert np.array_equal(their.data, 1 + tensor.values())
        else:
            assert their.tensor_type.name == format
            assert their.data.tobytes() == tensor.raw.tobytes()


def test_llama_cpp_opens_what_is_written(tmp_path: Path) -> None:
    llama = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    path = tmp_path / "model.gguf"
    size = 512  # llama.cpp wants byte pieces and a newline
    pieces = [*vocabulary(8).tokens, *(f"<0x{byte:02X}>" for byte in range(256)), "\n"]
    pieces += [f"piece{index}" for index in range(size - len(pieces))]
    types = np.array([3, 3, 3, 2, 3, 3, 3, 3] + [6] * 256 + [4] + [1] * (size - 265), np.int32)
    config = replace(TINY, vocab=size)
    words = Vocabulary(pieces, np.zeros(size, np.float32), types, bos=2, eos=1, unknown=3, padding=0)
    write_gguf(path, config, random_tensors(config, "Q8_0"), words)
    model = llama.Llama(str(path), n_ctx=32, n_threads=1, verbose=False, logits_all=True)
    model.eval([2, 300, 301])
    assert np.isfinite(np.array(model.scores[:3])).all()
    model.close()


def test_rows_beyond_the_vocabulary_are_left_out(tmp_path: Path) -> None:
    config = replace(TINY, vocab=64)
    tensors = random_tensors(config, "Q4_0")
    write_gguf(tmp_path / "a.gguf", config, tensors, vocabulary(48))
    checkpoint = open_checkpoint(tmp_path / "a.gguf")
    assert checkpoint.config == TINY
    assert np.array_equal(checkpoint.tensors["embed"].values(), tensors["embed"].values()[:48])


@pytest.mark.parametrize("format", ["F32", "F16", "BF16"])
def test_safetensors_package_reads_what_is_written(tmp_path: Path, format: str) -> None:
    tensors = random_tensors(TINY, format)
    path = tmp_path / "a.safetensors"
    write_safetensors(path, tensors, {"made": "für alle"})
    found = dict(safetensors.deserialize(path.read_bytes()))
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        entry = found[name]
        assert (tuple(entry["shape"]), entry["dtype"]) == (tensor.shape, tensor.format.name)
        assert bytes(entry["data"]) == tensor.raw.tobytes()
    with safetensors.safe_open(path, "np") as opened:
        assert opened.metadata() == {"format": "pt", "made": "für alle"}


@pytest.mark.parametrize("format", ["F32", "BF16"])
def test_transformers_loads_what_is_written(tmp_path: Path, format: str) -> None:
    tensors = random_tensors(TINY, format)
    write_folder(tmp_path, TINY, tensors)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype="auto")
    assert model.dtype == {"F32": torch.float32, "BF16": torch.bfloat16}[format]
    state = model.state_dict()
    assert state["lm_head.weight"].data_ptr() == state["model.embed_tokens.weight"].data_ptr()
    assert len(state) == len(tensors) + 1
    for name, tensor in tensors.items():
        assert np.array_equal(state[to_huggingface(name)].float().numpy(), tensor.values()), name


def test_norms_survive_the_way_through_gguf_and_back(tmp_path: Path) -> None:
    first = open_checkpoint(save(tmp_path, "BF16"))
    write_folder(tmp_path / "folder", first.config, first.tensors)
    second = open_checkpoint(tmp_path / "folder")
    write_gguf(tmp_path / "again.gguf", second.config, second.tensors, vocabulary(TINY.vocab), EXTRA)
    assert (tmp_path / "again.gguf").read_bytes() == (tmp_path / "model.gguf").read_bytes()


def test_metadata_of_another_file_may_be_given_whole(tmp_path: Path) -> None:
    """Keys about the other file's layout, shape and shards must not come along."""
    layout = {"general.alignment": ("I", 64), "split.count": ("H", 1), "gemma3.vision.block_count": ("I", 27)}
    words = {"general.license.names": ("[s", ["a", "ü"]), "general.name": ("s", "Other")}
    other = tmp_path / "other.gguf"
    other.write_bytes(seeds.smallest_gguf({**seeds.smallest_metadata(), **layout, **words}, align=64).data)
    metadata = open_checkpoint(other).metadata
    write_gguf(tmp_path / "new.gguf", TINY, random_tensors(TINY), vocabulary(TINY.vocab), metadata)
    new = open_checkpoint(tmp_path / "new.gguf")
    assert new.config == TINY
    assert new.metadata["general.name"] == "Other"
    assert new.metadata["general.license.names"] == [b"a", "ü".encode()]
    assert not new.metadata.keys() & layout.keys()


def test_stored_norms_keep_their_bits(tmp_path: Path) -> None:
    """A folder written from a folder: w itself, never (1 + w) - 1."""
    tensors = random_tensors(TINY, "BF16")
    tiny = np.full(TINY.width, 1e-9, np.float32)
    tensors["norm"] = Tensor.pack("norm", tiny, FORMATS["BF16"], 1.0)
    write_folder(tmp_path, TINY, tensors)
    assert open_checkpoint(tmp_path).tensors["norm"].raw.tobytes() == tensors["norm"].raw.tobytes()


# ---- what cannot be written


def test_quantized_tensors_do_not_go_into_safetensors(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="Q8_0, but safetensors files hold floats"):
        write_folder(tmp_path / "x", TINY, random_tensors(TINY, "Q8_0"))
    assert not list(tmp_path.glob("x/*"))


@pytest.mark.parametrize("write", ["gguf", "folder"])
def test_tensors_must_be_those_of_the_config(tmp_path: Path, write: str) -> None:
    def attempt(tensors: dict[str, Tensor]) -> None:
        if write == "gguf":
            write_gguf(tmp_path / "x", TINY, tensors, vocabulary(TINY.vocab))
        else:
            write_folder(tmp_path / "x", TINY, tensors)

    tensors = random_tensors(TINY)
    for wrong in (
        {name: tensor for name, tensor in tensors.items() if name != "layers.1.up"},
        tensors | {"layers.2.up": tensors["layers.1.up"]},
        tensors | {"layers.1.up": tensors["layers.1.down"]},
    ):
        with pytest.raises(GemmaryError, match=r"tensor 'layers.[12].up' is .*, but the config calls for"):
            attempt(wrong)
    assert list(tmp_path.iterdir()) == []


# ---- disks that fail


@pytest.mark.parametrize("name", ["model.gguf", "model.safetensors"])
def test_bytes_reach_the_disk_before_the_name_and_the_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """After a power cut there is the old file or the whole new one."""
    done: list[str] = []
    fsync, rename = os.fsync, os.replace

    def recorded_fsync(descriptor: int) -> None:
        done.append(f"sync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).suffix}")
        fsync(descriptor)

    def recorded_replace(old: Path, new: Path) -> None:
        done.append(f"rename {old.suffix} to {new.name}")
        rename(old, new)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    attempts(tmp_path)[name]()
    assert done == ["sync .part", f"rename .part to {name}", "sync "]


@pytest.mark.parametrize("name", attempts(Path()))
@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_failing_disk_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, call: str, code: int
) -> None:
    """The n-th call fails, for every n until none does."""
    old = tmp_path / name
    genuine, failures = getattr(os, call), 0
    while True:
        old.write_bytes(b"old")
        left = failures

        def failing(*arguments: Any) -> Any:
            nonlocal left
            left -= 1
            if left == -1:
                raise OSError(code, os.strerror(code))
            return genuine(*arguments)

        monkeypatch.setattr(os, call, failing)
        try:
            attempts(tmp_path)[name]()
            break
        except GemmaryError as error:
            assert os.strerror(code) in str(error)
            assert str(tmp_path) in str(error)
        finally:
            monkeypatch.setattr(os, call, genuine)
        # Whole: the old one, or, when only the last sync of the folder failed, the new one.
        assert old.read_bytes() == b"old" or len(old.read_bytes()) > 500
        assert not list(tmp_path.glob(".*"))
        failures += 1
    assert failures >= 1
    assert old.read_bytes() != b"old"


def test_full_disk_leaves_nothing(tmp_path: Path) -> None:
    """A limit on the size of files, in a process of its own: the write itself fails, halfway."""
    script = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from gemmary.errors import GemmaryError\n"
        "from tests.weights.seeds import attempts\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "for name, attempt in attempts(Path(sys.argv[1])).items():\n"
        "    try:\n"
        "        attempt()\n"
        "    except GemmaryError as error:\n"
        "        print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.count("cannot be written: File too large") == 3, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(GemmaryError, match="cannot be made"):
        write_folder(tmp_path / "file" / "model", TINY, random_tensors(TINY))
    with pytest.raises(GemmaryError, match="cannot be written: No such file"):
        write_safetensors(tmp_path / "absent" / "a.safetensors", random_tensors(TINY))


def test_new_files_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        assert save(tmp_path).stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(before)


def test_written_config_is_readable_json(tmp_path: Path) -> None:
    write_folder(tmp_path, TINY, random_tensors(TINY))
    values = json.loads((tmp_path / "config.json").read_text())
    assert (values["model_type"], values["torch_dtype"]) == ("gemma3_text", "bfloat16")


def test_values_survive(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(save(tmp_path, "F32"))
    for name, values in random_values(TINY).items():
        found = checkpoint.gain(name) - np.float32(1) if is_norm(name) else checkpoint.tensors[name].values()
        np.testing.assert_allclose(found, values, atol=1e-7 if is_norm(name) else 0)
