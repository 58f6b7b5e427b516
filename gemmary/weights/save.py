"""Writing models: GGUF files and Hugging Face folders, atomically (atomic.py).

Tensors go from map to file in pieces, and into another number format on the way (recoded.py): a model is
never in memory as a whole. What is written here opens in the `gguf` and `safetensors` packages, in llama.cpp
and in transformers.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..config import Config
from ..errors import GemmaryError, UnsupportedModelError
from ..formats import FORMATS
from .atomic import replacing
from .ggufconfig import gguf_metadata
from .ggufwriter import Progress, Storable, checked, file_type, write_gguf_file, write_pieces
from .huggingface import config_to_json, multimodal_to_json
from .names import expected_shapes, is_norm, to_gguf, to_huggingface
from .recoded import Recoded
from .savevision import vision_for_folder
from .tensor import FLOATS, Tensor
from .vocabulary import Vocabulary, vocabulary_metadata

_TORCH = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def write_gguf(
    path: str | os.PathLike[str],
    config: Config,
    tensors: Mapping[str, Storable],
    vocabulary: Vocabulary,
    metadata: Mapping[str, object] | None = None,
    progress: Progress | None = None,
) -> None:
    """Write a text decoder as GGUF version 3.

    `tensors`: our names, exactly those of `config`; norms of either convention are stored as 1 + w, float32.
    Rows of the embedding beyond the vocabulary are left out, as llama.cpp expects. `metadata`: further keys
    (str, bool, int, float, NumPy array, list of str or bytes), such as general.name; that of another GGUF
    file may be given whole, for what describes its layout is left out.
    UnsupportedModelError: GGUF cannot express the config. GemmaryError: it cannot be written.
    """
    path = Path(path)
    config = replace(config, vocab=len(vocabulary.tokens))
    fitted = {name: _for_gguf(name, tensor, config) for name, tensor in tensors.items()}
    stored = checked(fitted, expected_shapes(config), path)
    keys = {
        "general.architecture": "gemma3",
        "general.type": "model",
        "general.quantization_version": 2,
        "general.file_type": file_type(stored.values()),
        **gguf_metadata(config, path),
        **vocabulary_metadata(vocabulary),
    }
    further = metadata or {}
    keys |= {key: further[key] for key in further if key not in keys and _travels(key)}
    write_gguf_file(path, keys, {to_gguf(name): tensor for name, tensor in stored.items()}, progress)


def write_safetensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Storable],
    metadata: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> None:
    """Write tensors under the names given. GemmaryError: not F32, F16 or BF16; cannot be written."""
    path = Path(path)
    header: dict[str, object] = {"__metadata__": {"format": "pt", **(metadata or {})}}
    offset = 0
    for name, tensor in tensors.items():
        if tensor.format.name not in FLOATS:
            raise UnsupportedModelError(
                f"{path}: tensor {name!r} is {tensor.format.name}, but safetensors files hold floats"
            )
        end = offset + tensor.nbytes
        header[name] = {
            "dtype": tensor.format.name,
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    head = json.dumps(header, separators=(",", ":")).encode()
    head = head.ljust(-(-len(head) // 8) * 8)  # data begins at a multiple of 8
    with replacing(path) as file:
        file.write(struct.pack("<Q", len(head)) + head)
        write_pieces(file, tensors.values(), progress)


def write_folder(
    path: str | os.PathLike[str],
    config: Config,
    tensors: Mapping[str, Storable],
    ids: Mapping[str, object] | None = None,
    progress: Progress | None = None,
    vision: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a model as a Hugging Face folder: model.safetensors, then config.json.

    `tensors`: our names, exactly those of `config`, in F32, F16 or BF16; norms of either convention are
    stored as w. `ids`: bos_token_id and the like where they are not Gemma's. `vision`: the tensors of
    `config.vision`, likewise; without them a text decoder is written, whatever `config.vision` is. The
    tokenizer's files are the caller's. GemmaryError: it cannot be written.
    """
    path = Path(path)
    fitted = {name: _for_folder(name, tensor) for name, tensor in tensors.items()}
    stored = checked(fitted, expected_shapes(config), path)
    if vision is None:
        theirs = {to_huggingface(name): tensor for name, tensor in stored.items()}
    else:
        theirs = {f"language_model.{to_huggingface(name)}": tensor for name, tensor in stored.items()}
        theirs |= vision_for_folder(config, vision, path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GemmaryError(f"{path}: cannot be made: {error.strerror}") from error
    write_safetensors(path / "model.safetensors", theirs, progress=progress)
    with replacing(path / "config.json") as file:
        to_json = config_to_json if vision is None else multimodal_to_json
        values = to_json(config, _TORCH[stored["embed"].format.name]) | dict(ids or {})
        file.write(json.dumps(values, indent=2).encode() + b"\n")


def _for_gguf(name: str, tensor: Storable, config: Config) -> Storable:
    if isinstance(tensor, Tensor) and is_norm(name):
        return Tensor.pack(name, tensor.gain(), FORMATS["F32"])
    if name == "embed" and tensor.shape[0] > config.vocab:
        return tensor.part(0, config.vocab)
    return tensor


def _for_folder(name: str, tensor: Storable) -> Storable:
    if isinstance(tensor, Recoded) or not is_norm(name) or tensor.gain_offset == 1:
        return tensor
    return Tensor.pack(name, tensor.gain() - np.float32(1), FORMATS["F32"], 1.0)


def _travels(key: str) -> bool:
    """Whether a metadata key means the same in another file: not what config, vocabulary or layout say."""
    bound = ("gemma3.", "tokenizer.ggml.", "split.", "quantize.")
    return key != "general.alignment" and not key.startswith(bound)
