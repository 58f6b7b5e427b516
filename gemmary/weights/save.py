"""Writing models: GGUF files and Hugging Face folders, atomically (atomic.py).

Tensors go from map to file in pieces, and into another number format on the way (recoded.py): a model is
never in memory as a whole. What is written here opens in the `gguf` and `safetensors` packages, in llama.cpp
and in transformers.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..config import Config
from ..errors import GemmaryError, UnsupportedModelError
from ..formats import FORMATS
from .atomic import replacing
from .ggufconfig import gguf_metadata
from .huggingface import config_to_json
from .names import expected_shapes, is_norm, to_gguf, to_huggingface
from .recoded import Recoded
from .tensor import FLOATS, Tensor
from .vocabulary import Vocabulary, vocabulary_metadata

Storable = Tensor | Recoded
Progress = Callable[[int, int], None]  # called with bytes written, and bytes in all

ALIGNMENT = 32
# general.file_type: how llama.cpp calls a file by the format of most of its matrices (spec/gemma3.md, 7.6)
FILE_TYPES = {
    "F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "Q4_K": 15, "Q5_K": 17,
    "Q6_K": 18, "BF16": 32,
}  # fmt: skip
_KINDS = {
    "u1": 0, "i1": 1, "u2": 2, "i2": 3, "u4": 4, "i4": 5, "f4": 6, "b1": 7, "u8": 10, "i8": 11, "f8": 12,
}  # fmt: skip
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
    stored = _checked(
        {name: _for_gguf(name, tensor, config) for name, tensor in tensors.items()}, config, path
    )
    keys = {
        "general.architecture": "gemma3",
        "general.type": "model",
        "general.quantization_version": 2,
        "general.file_type": _file_type(stored.values()),
        **gguf_metadata(config, path),
        **vocabulary_metadata(vocabulary),
    }
    further = metadata or {}
    keys |= {key: further[key] for key in further if key not in keys and _travels(key)}
    table, offset = [], 0
    for name, tensor in stored.items():
        table.append(_text(to_gguf(name)) + _dimensions(tensor) + struct.pack("<Q", offset))
        offset += _padded(tensor.nbytes)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(table), len(keys))
    head += b"".join(_text(key) + _value(value) for key, value in keys.items()) + b"".join(table)
    with replacing(path) as file:
        file.write(head.ljust(_padded(len(head)), b"\0"))
        _write(file, stored.values(), progress, ALIGNMENT)


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
        _write(file, tensors.values(), progress)


def write_folder(
    path: str | os.PathLike[str],
    config: Config,
    tensors: Mapping[str, Storable],
    ids: Mapping[str, object] | None = None,
    progress: Progress | None = None,
) -> None:
    """Write a text decoder as a Hugging Face folder: model.safetensors, then config.json.

    `tensors`: our names, exactly those of `config`, in F32, F16 or BF16; norms of either convention are
    stored as w. `ids`: bos_token_id and the like where they are not Gemma's. The tokenizer's files are the
    caller's. GemmaryError: it cannot be written.
    """
    path = Path(path)
    stored = _checked({name: _for_folder(name, tensor) for name, tensor in tensors.items()}, config, path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GemmaryError(f"{path}: cannot be made: {error.strerror}") from error
    theirs = {to_huggingface(name): tensor for name, tensor in stored.items()}
    write_safetensors(path / "model.safetensors", theirs, progress=progress)
    with replacing(path / "config.json") as file:
        values = config_to_json(config, _TORCH[stored["embed"].format.name]) | dict(ids or {})
        file.write(json.dumps(values, indent=2).encode() + b"\n")


def _checked(tensors: Mapping[str, Storable], config: Config, path: Path) -> dict[str, Storable]:
    """`tensors` in the order of the forward pass, if they are exactly those of `config`."""
    expected = expected_shapes(config)
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    wrong = [name for name in expected.keys() | shapes.keys() if expected.get(name) != shapes.get(name)]
    if wrong:
        name = min(wrong)
        raise GemmaryError(
            f"{path}: tensor {name!r} is {shapes.get(name)}, but the config calls for {expected.get(name)}"
        )
    return {name: tensors[name] for name in expected}


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


def _file_type(tensors: Iterable[Storable]) -> int:
    """The format that most matrix bytes of the layers are in."""
    totals: dict[str, int] = {}
    for tensor in tensors:
        if tensor.name != "embed" and len(tensor.shape) == 2:
            totals[tensor.format.name] = totals.get(tensor.format.name, 0) + tensor.nbytes
    return FILE_TYPES[max(totals, key=totals.__getitem__)]


def _write(
    file: BinaryIO, tensors: Iterable[Storable], progress: Progress | None, alignment: int = 1
) -> None:
    tensors = list(tensors)
    done, total = 0, sum(tensor.nbytes for tensor in tensors)
    for tensor in tensors:
        for piece in tensor.pieces():
            file.write(piece.data)
            done += len(piece)
            if progress is not None:
                progress(done, total)
        file.write(bytes(-tensor.nbytes % alignment))


def _padded(count: int) -> int:
    return -(-count // ALIGNMENT) * ALIGNMENT


def _text(text: str | bytes) -> bytes:
    data = text.encode("utf-8") if isinstance(text, str) else text
    return struct.pack("<Q", len(data)) + data


def _dimensions(tensor: Storable) -> bytes:
    sizes = tensor.shape[::-1]
    return struct.pack(f"<I{len(sizes)}QI", len(sizes), *sizes, tensor.format.ggml_id)


def _value(value: object) -> bytes:
    """A metadata value with its type."""
    if isinstance(value, np.ndarray):
        little = value.astype(value.dtype.newbyteorder("<"))
        return struct.pack("<IIQ", 9, _KINDS[value.dtype.str[1:]], value.size) + little.tobytes()
    if isinstance(value, list):
        return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(_text, value))
    if isinstance(value, str):
        return struct.pack("<I", 8) + _text(value)
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        kind, code = (4, "I") if 0 <= value < 1 << 32 else (10, "Q") if value > 0 else (11, "q")
        return struct.pack("<I" + code, kind, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    raise TypeError(f"GGUF metadata cannot hold a {type(value).__name__}")
