"""Files and folders that are no model Gemmary runs: refused, with a sentence."""

from __future__ import annotations

import errno
import io
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from gemmary.errors import GemmaryError, ModelFileError, UnsupportedModelError
from gemmary.weights.checkpoint import open_checkpoint
from gemmary.weights.names import expected_shapes, to_gguf

from . import seeds
from .seeds import with_head

folder = pytest.fixture(seeds.smallest_folder)


# ---- strictness


def gguf_of(changes: Callable[[dict[str, Any]], object]) -> Callable[[Path], Path]:
    """A GGUF file whose tensor table is changed."""

    def build(path: Path) -> Path:
        entries: dict[str, Any] = {
            to_gguf(name): (shape, "F32") for name, shape in expected_shapes(seeds.SMALLEST).items()
        }
        changes(entries)
        header, size = seeds.gguf_header(seeds.smallest_metadata(), entries)
        path.write_bytes(header + bytes(size))
        return path

    return build


def also(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda entries: entries.update({name: ((32,), "F32")})


STRICT: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing matrix": (
        gguf_of(lambda e: e.pop("blk.0.ffn_up.weight")),
        "lacks 1 of 15 tensors: 'layers.0.up'",
    ),
    "missing norm": (gguf_of(lambda e: e.pop("output_norm.weight")), "lacks 1 of 15 tensors: 'norm'"),
    "missing table": (gguf_of(lambda e: e.pop("token_embd.weight")), "lacks the embedding table"),
    "no tensors": (gguf_of(lambda e: e.clear()), "lacks the embedding table"),
    "another layer": (
        gguf_of(also("blk.1.attn_norm.weight")),
        "1 tensors beyond its 1 layers: 'blk.1.attn_norm",
    ),
    "unknown tensor": (gguf_of(also("blk.0.attn_q.bias")), "does not have: 'blk.0.attn_q.bias'"),
    "several unknown": (
        gguf_of(lambda e: [also(f"x.{i}")(e) for i in range(6)]),
        "'x.0', 'x.1', 'x.2', 'x.3', ...$",
    ),
    "misshaped": (
        gguf_of(lambda e: e.update({"blk.0.ffn_up.weight": ((8, 32), "F32")})),
        r"'blk.0.ffn_up.weight' is \[8, 32\], but must be \[32, 32\]",
    ),
    "norm as a matrix": (
        gguf_of(lambda e: e.update({"output_norm.weight": ((1, 32), "F32")})),
        r"is \[1, 32\], but must be \[32\]",
    ),
    "table as a vector": (
        gguf_of(lambda e: e.update({"token_embd.weight": ((384,), "F32")})),
        r"is \[384\], but must be \[384, 32\]",
    ),
}


@pytest.mark.parametrize("name", STRICT)
def test_opening_is_strict(name: str, tmp_path: Path) -> None:
    build, sentence = STRICT[name]
    with pytest.raises(ModelFileError, match=sentence):
        open_checkpoint(build(tmp_path / "a.gguf"))


def test_quantized_norms_are_unsupported(tmp_path: Path) -> None:
    path = gguf_of(lambda e: e.update({"output_norm.weight": ((32,), "Q8_0")}))(tmp_path / "a.gguf")
    with pytest.raises(UnsupportedModelError, match="norms must be floats"):
        open_checkpoint(path)


def test_formats_that_are_not_run_are_unsupported(tmp_path: Path) -> None:
    path = gguf_of(lambda _: None)(tmp_path / "a.gguf")
    data = bytearray(path.read_bytes())
    where = data.index(b"output_norm.weight") + 18 + 4 + 8
    struct.pack_into("<I", data, where, 24)
    path.write_bytes(data)
    with pytest.raises(
        UnsupportedModelError, match=r"'output_norm.weight' is I8, which Gemmary does not run"
    ):
        open_checkpoint(path)


def test_vision_tensors_without_their_sizes_are_told(tmp_path: Path) -> None:
    def build(entries: dict[str, Any]) -> None:
        entries |= {"v.blk.0.attn_q.weight": ((8, 8), "F16"), "mm.soft_emb_norm.weight": ((8,), "F32")}

    with pytest.raises(ModelFileError, match=r"gemma3.vision.image_size is missing"):
        open_checkpoint(gguf_of(build)(tmp_path / "a.gguf"))


def test_two_names_for_one_tensor_are_told(folder: Path) -> None:
    stored = safetensors.torch.load_file(folder / "model.safetensors")
    stored["language_model.model.norm.weight"] = stored["model.norm.weight"].clone()
    safetensors.torch.save_file(stored, folder / "model.safetensors")
    with pytest.raises(ModelFileError, match=r"norm.weight' and '.*norm.weight' are the same tensor"):
        open_checkpoint(folder)


def test_other_row_counts_are_told(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(seeds.smallest_json() | {"vocab_size": 13}))
    with pytest.raises(ModelFileError, match=r"the embedding has 12 rows, but config.json says 13"):
        open_checkpoint(folder)


def test_head_of_its_own_is_told(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=r"'output.weight' differs from the embedding"):
        open_checkpoint(with_head(tmp_path / "a.gguf", 1))
    stored = safetensors.torch.load_file(folder / "model.safetensors")
    for head in (torch.zeros_like(stored["model.embed_tokens.weight"]), torch.zeros(3)):
        safetensors.torch.save_file(stored | {"lm_head.weight": head}, folder / "model.safetensors")
        with pytest.raises(UnsupportedModelError, match=r"'lm_head.weight' differs from the embedding"):
            open_checkpoint(folder)


# ---- what people give by mistake


def test_folder_without_a_config(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(
        ModelFileError, match=r"has no config.json: give a .gguf file, or the folder of a model"
    ):
        open_checkpoint(folder)
    (folder / "model.gguf").touch()
    with pytest.raises(ModelFileError, match="but GGUF files: give one of them by its name"):
        open_checkpoint(folder)


def test_pickled_weights_are_not_read(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model-00001-of-00002.bin")
    with pytest.raises(
        UnsupportedModelError, match=r"a pickle, which can run code: it is not read. Take the model's"
    ):
        open_checkpoint(folder)


def test_folder_without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelFileError, match=r"has no .safetensors file"):
        open_checkpoint(folder)


def test_shards_without_an_index(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").rename(folder / "weights.safetensors")
    assert len(open_checkpoint(folder).tensors) == 15  # a single file by another name
    (folder / "more.safetensors").write_bytes(data)
    with pytest.raises(ModelFileError, match=r"2 .safetensors files, but no model.safetensors.index.json"):
        open_checkpoint(folder)


def test_part_of_a_folder(folder: Path) -> None:
    with pytest.raises(ModelFileError, match="give the folder that holds it"):
        open_checkpoint(folder / "model.safetensors")


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="No such file"):
        open_checkpoint(tmp_path / "nothing.gguf")
    with pytest.raises(ModelFileError, match="cannot be opened: embedded null byte"):
        open_checkpoint(tmp_path / "nothing\0.gguf")


def test_config_linked_out_of_its_folder_is_told(folder: Path, tmp_path: Path) -> None:
    (folder / "config.json").rename(tmp_path / "outside.json")
    (folder / "config.json").symlink_to(tmp_path / "outside.json")
    with pytest.raises(ModelFileError, match="link to a file outside"):
        open_checkpoint(folder)


def test_endless_config_is_told(folder: Path) -> None:
    (folder / "config.json").write_bytes(b" " * ((1 << 20) + 1))
    with pytest.raises(ModelFileError, match="longer than 1,048,576 bytes"):
        open_checkpoint(folder)


# ---- disks that fail


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "a.gguf"])
def test_disk_that_fails_while_reading_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Reads of one file give EIO."""
    (folder / "a.gguf").write_bytes(seeds.smallest_gguf().data)
    genuine = os.fdopen

    class Failing(io.BufferedReader):
        def read(self, size: int | None = -1, /) -> bytes:
            if os.readlink(f"/proc/self/fd/{self.fileno()}").endswith(name):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return super().read(size)

    monkeypatch.setattr(os, "fdopen", lambda fd, *a, **k: Failing(genuine(fd, "rb", buffering=0)))
    with pytest.raises(ModelFileError, match=f"{name}: cannot be read: Input/output error"):
        open_checkpoint(folder / "a.gguf" if name == "a.gguf" else folder)


def test_file_cut_short_after_opening_is_told(folder: Path) -> None:
    checkpoint = open_checkpoint(folder)
    os.truncate(folder / "model.safetensors", 100)
    with pytest.raises(GemmaryError, match="cut short after it was opened"):
        checkpoint.tensors["norm"]
