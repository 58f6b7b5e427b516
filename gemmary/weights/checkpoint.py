"""A model on disk, whichever way it is stored: its Config and its tensors under our names.

Opening is strict: every tensor that the Config calls for must be there once, in its exact shape, and no
other. It reads headers only; tensors are read when their values are asked for.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..config import Config
from ..errors import ModelFileError, UnsupportedModelError
from .canonical import Found, Tensors, canonical, strict
from .gguf import GGUFFile, read_gguf
from .ggufconfig import config_from_gguf
from .huggingface import config_from_json
from .mmproj import beside_model
from .names import HEAD, VISION, expected_shapes, from_gguf, from_huggingface, is_norm
from .safetensors import SafetensorsFile, inside, read_safetensors, read_shards
from .strictjson import read_object
from .tensor import Floats, TensorInfo
from .vision import VisionCheckpoint, open_vision, vision_of_folder, vision_of_gguf
from .vocabulary import TokenizerFiles, Vocabulary, vocabulary_from_gguf

CONFIG_BYTES = 1 << 20
TABLE_ROWS = (262_144, 262_208)  # with and without the rows that no token uses (262,144 have a piece)
COMPARED = 16 << 20  # bytes at a time


@dataclass(frozen=True)
class Checkpoint:
    """An opened model.

    `embed_scale` is what embeddings are multiplied by. `metadata` is config.json or the GGUF metadata, as
    parsed. `set_aside` names the file's vision tensors, which the text decoder does not use; `vision` is the
    picture half, from this file or from an mmproj file, and None where the model reads text only.
    """

    path: Path
    config: Config
    tensors: Tensors
    vocabulary: Vocabulary | TokenizerFiles
    metadata: Mapping[str, object]
    embed_scale: float
    file_bytes: int
    set_aside: tuple[str, ...]
    vision: VisionCheckpoint | None = None

    def gain(self, name: str) -> Floats:
        """The multiplier 1 + w of a norm, float32 [width]."""
        return self.tensors[name].gain()

    @property
    def parameters(self) -> int:
        """Numbers in all tensors of the decoder."""
        return sum(math.prod(shape) for shape in expected_shapes(self.config).values())

    def groups(self) -> dict[str, dict[str, int]]:
        """Bytes by kind of tensor (`embed`, `q`, ..., `norm` for all norms), then by number format."""
        groups: dict[str, dict[str, int]] = {}
        for name in self.tensors:
            tensor = self.tensors[name]
            kind = "norm" if is_norm(name) else name.rpartition(".")[2]
            formats = groups.setdefault(kind, {})
            formats[tensor.format.name] = formats.get(tensor.format.name, 0) + len(tensor.raw)
        return groups


def open_checkpoint(
    path: str | os.PathLike[str], exact_scale: bool = False, mmproj: str | os.PathLike[str] | None = None
) -> Checkpoint:
    """Open a GGUF file, or a folder with config.json and *.safetensors.

    `exact_scale` keeps the embedding scale sqrt(width) unrounded, as llama.cpp does; else it is rounded to
    the dtype that the embedding is stored in, GGUF counting as bf16 (as transformers'
    Gemma3TextScaledWordEmbedding does).
    `mmproj`: the file with the picture half; None: the one beside a GGUF file, if there is one (mmproj.py).
    ModelFileError: damaged, incomplete or hostile. UnsupportedModelError: sound, but not a Gemma 3 that
    Gemmary runs.
    """
    path = Path(path)
    checkpoint = _open_folder(path) if os.path.isdir(path) else _open_gguf(path)
    checkpoint = _with_eyes(checkpoint, None if mmproj is None else Path(mmproj))
    return replace(checkpoint, embed_scale=math.sqrt(checkpoint.config.width)) if exact_scale else checkpoint


def _with_eyes(checkpoint: Checkpoint, mmproj: Path | None) -> Checkpoint:
    """The checkpoint with its picture half: `mmproj`, its own, or the file beside it."""
    path, width = checkpoint.path, checkpoint.config.width
    vision = checkpoint.vision
    if mmproj is not None:
        vision = open_vision(mmproj, width)
    elif vision is None and not os.path.isdir(path):
        beside = beside_model(path, width)
        vision = None if beside is None else open_vision(beside, width)
    config = replace(checkpoint.config, vision=None if vision is None else vision.config)
    return replace(checkpoint, config=config, vision=vision)


def _open_gguf(path: Path) -> Checkpoint:
    if path.suffix == ".safetensors":
        raise ModelFileError(path, "is a part of a model; give the folder that holds it and its config.json")
    file = read_gguf(path)
    config = config_from_gguf(file.metadata, path)
    vocabulary = vocabulary_from_gguf(file.metadata, path)
    found, aside = _text_tensors(file, from_gguf)
    rows = _table_rows(found, path)
    if rows < config.vocab:
        raise ModelFileError(path, f"the embedding has {rows:,} rows for {config.vocab:,} tokens")
    config = replace(config, vocab=rows)
    infos = strict(found, expected_shapes(config), config.layers, path)
    return Checkpoint(
        path=path,
        config=config,
        tensors=Tensors(infos, 0.0),
        vocabulary=vocabulary,
        metadata=file.metadata,
        embed_scale=_rounded(math.sqrt(config.width), "BF16"),
        file_bytes=file.size,
        set_aside=tuple(aside),
        vision=vision_of_gguf(file, aside, config.width) if aside else None,
    )


def _open_folder(path: Path) -> Checkpoint:
    values = _config_json(path)
    config = config_from_json(values, path / "config.json")
    file = _weights(path)
    found, aside = _text_tensors(file, from_huggingface)
    rows = _table_rows(found, path)
    if rows != config.vocab and not {rows, config.vocab} <= set(TABLE_ROWS):
        raise ModelFileError(path, f"the embedding has {rows:,} rows, but config.json says {config.vocab:,}")
    config = replace(config, vocab=rows)
    infos = strict(found, expected_shapes(config), config.layers, path)
    return Checkpoint(
        path=path,
        config=config,
        tensors=Tensors(infos, 1.0),
        vocabulary=TokenizerFiles(_optional(path, "tokenizer.model"), _optional(path, "tokenizer.json")),
        metadata=values,
        embed_scale=_rounded(math.sqrt(config.width), infos["embed"].known_format().name),
        file_bytes=file.size,
        set_aside=tuple(aside),
        vision=vision_of_folder(path, config, aside) if aside else None,
    )


def _config_json(folder: Path) -> dict[str, object]:
    if not os.path.exists(folder / "config.json"):
        if any(folder.glob("*.gguf")):
            raise ModelFileError(folder, "has no config.json, but GGUF files: give one of them by its name")
        raise ModelFileError(folder, "has no config.json: give a .gguf file, or the folder of a model")
    return read_object(inside(folder, "config.json"), CONFIG_BYTES)


def _weights(folder: Path) -> SafetensorsFile:
    whole, index = "model.safetensors", "model.safetensors.index.json"
    if os.path.exists(folder / whole):
        return read_safetensors(inside(folder, whole))
    if os.path.exists(folder / index):
        return read_shards(inside(folder, index))
    others = sorted(part.name for part in folder.glob("*.safetensors"))
    if len(others) == 1:
        return read_safetensors(inside(folder, others[0]))
    if others:
        raise ModelFileError(folder, f"has {len(others)} .safetensors files, but no {index}: fetch it too")
    if any(folder.glob("pytorch_model*.bin")):
        raise UnsupportedModelError(
            f"{folder}: the weights are in pytorch_model.bin, a pickle, which can run code: it is not read. "
            "Take the model's .safetensors files, or convert it with transformers: save_pretrained(folder)"
        )
    raise ModelFileError(folder, "has no .safetensors file")


def _optional(folder: Path, name: str) -> Path | None:
    return inside(folder, name) if os.path.exists(folder / name) else None


def _text_tensors(
    file: GGUFFile | SafetensorsFile, ours: Callable[[str], str | None]
) -> tuple[Found, dict[str, TensorInfo]]:
    """The text decoder's tensors under our names, and those of the picture half under the file's."""
    aside = {name: info for name, info in file.tensors.items() if ours(name) == VISION}
    text = {name: info for name, info in file.tensors.items() if name not in aside}
    found = canonical(text, ours, file.path)
    _check_tied(found, file.path)
    return found, aside


def _check_tied(found: Found, path: Path) -> None:
    """Drop an output head that repeats the embedding; any other head is not Gemma 3's."""
    head, embed = found.pop(HEAD, None), found.get("embed")
    if head is None or embed is None:
        return
    same = (head.shape, head.kind, head.nbytes) == (embed.shape, embed.kind, embed.nbytes)
    for start in range(0, head.nbytes if same else 0, COMPARED):
        part = slice(start, start + COMPARED)
        same = same and np.array_equal(head.raw()[part], embed.raw()[part])
    if not same:
        raise UnsupportedModelError(
            f"{path}: {head.name!r} differs from the embedding; Gemma 3 uses one table for both"
        )


def _table_rows(found: Found, path: Path) -> int:
    if "embed" not in found:
        raise ModelFileError(path, "lacks the embedding table (token_embd.weight or embed_tokens.weight)")
    return found["embed"].shape[0] if found["embed"].shape else 0


def _rounded(value: float, kind: str) -> float:
    """`value` rounded to the nearest number of a float format, ties to even; F32 leaves it unrounded."""
    if kind == "F32":
        return value
    if kind == "F16":
        return float(np.float16(value))
    bits = int(np.float32(value).view(np.uint32))
    upper = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF_0000
    return float(np.uint32(upper).view(np.float32))
