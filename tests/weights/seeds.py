"""Small models and the smallest valid files, written by hand so that tests know where every field lies."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gemmary.config import Config, Rope
from gemmary.formats import FORMATS
from gemmary.weights.names import expected_shapes, is_norm, to_gguf, to_huggingface
from gemmary.weights.save import write_folder, write_gguf, write_safetensors
from gemmary.weights.tensor import Tensor
from gemmary.weights.vocabulary import Vocabulary

TINY = Config(
    name="custom", vocab=48, width=64, layers=2, heads=2, kv_heads=1, head_dim=32, ffn=96, window=8,
    context=64, query_scalar=32, rope_global=Rope(1e6, 8.0), global_layers=(1,),
)  # fmt: skip
SMALLEST = Config(
    name="custom", vocab=12, width=32, layers=1, heads=1, kv_heads=1, head_dim=32, ffn=32, window=4,
    context=16, query_scalar=32, global_layers=(),
)  # fmt: skip
CONTROLS = "<pad> <eos> <bos> <unk> <mask> [multimodal] <start_of_turn> <end_of_turn>".split()


def vocabulary(size: int) -> Vocabulary:
    tokens = [*CONTROLS, *(f"piece{index}" for index in range(size - len(CONTROLS)))]
    types = np.array([3, 3, 3, 2, 3, 3, 3, 3] + [1] * (size - 8), np.int32)
    scores = np.array([-1000.0] * 8 + [-float(i) for i in range(size - 8)], np.float32)
    return Vocabulary(tokens, scores, types, bos=2, eos=1, unknown=3, padding=0)


def random_values(config: Config, seed: int = 0) -> dict[str, np.ndarray]:
    """float32 by canonical name; norms hold w, as Hugging Face stores it."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.normal(0, 0.3 if is_norm(name) else 0.5, shape).astype(np.float32)
        for name, shape in expected_shapes(config).items()
    }


def random_tensors(config: Config, format: str = "BF16", seed: int = 0) -> dict[str, Tensor]:
    """Random tensors in one format, norms as w in F32 (BF16 where the format is BF16)."""
    norm = FORMATS["BF16" if format == "BF16" else "F32"]
    return {
        name: Tensor.pack(name, values, norm, 1.0)
        if is_norm(name)
        else Tensor.pack(name, values, FORMATS[format])
        for name, values in random_values(config, seed).items()
    }


def words(name: str) -> bytes:
    data = name.encode()
    return struct.pack("<Q", len(data)) + data


@dataclass
class Marked:
    """Bytes under construction; `lengths`, `types` and `cuts` are the places worth attacking."""

    data: bytearray = field(default_factory=bytearray)
    lengths: list[tuple[int, int]] = field(default_factory=list)  # position, bytes
    types: list[int] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)  # borders of whole records

    def put(self, format: str, *values: object, mark: str = "") -> None:
        if mark == "length":
            self.lengths.append((len(self.data), struct.calcsize("<" + format)))
        if mark == "type":
            self.types.append(len(self.data))
        self.data += struct.pack("<" + format, *values)

    def text(self, text: bytes) -> None:
        self.put("Q", len(text), mark="length")
        self.data += text

    def cut(self) -> None:
        self.cuts.append(len(self.data))


GGUFValue = tuple[str, object]  # type code of struct, "s", or "[...": array of it


def smallest_metadata(config: Config = SMALLEST) -> dict[str, GGUFValue]:
    voc = vocabulary(config.vocab)
    return {
        "general.architecture": ("s", "gemma3"),
        "gemma3.context_length": ("I", config.context),
        "gemma3.embedding_length": ("I", config.width),
        "gemma3.block_count": ("I", config.layers),
        "gemma3.feed_forward_length": ("I", config.ffn),
        "gemma3.attention.head_count": ("I", config.heads),
        "gemma3.attention.head_count_kv": ("I", config.kv_heads),
        "gemma3.attention.key_length": ("I", config.head_dim),
        "gemma3.attention.value_length": ("I", config.head_dim),
        "gemma3.attention.layer_norm_rms_epsilon": ("f", 1e-6),
        "gemma3.attention.sliding_window": ("I", config.window),
        "gemma3.rope.freq_base": ("f", 1e6),
        "tokenizer.ggml.model": ("s", "llama"),
        "tokenizer.ggml.tokens": ("[s", voc.tokens),
        "tokenizer.ggml.scores": ("[f", voc.scores.tolist()),
        "tokenizer.ggml.token_type": ("[i", voc.types.tolist()),
        "tokenizer.ggml.bos_token_id": ("I", 2),
        "tokenizer.ggml.eos_token_id": ("I", 1),
        "tokenizer.ggml.add_bos_token": ("?", True),
    }


GGUF_CODES = {
    "B": 0,
    "b": 1,
    "H": 2,
    "h": 3,
    "I": 4,
    "i": 5,
    "f": 6,
    "?": 7,
    "s": 8,
    "[": 9,
    "Q": 10,
    "q": 11,
    "d": 12,
}


def smallest_gguf(
    metadata: dict[str, GGUFValue] | None = None,
    formats: tuple[str, ...] = ("F32", "Q4_0", "F16"),
    align: int = 32,
    shapes: dict[str, tuple[int, ...]] | None = None,
) -> Marked:
    """A one-layer model; matrices take turns in `formats`. `shapes`: other tensors, by the file's names."""
    keys = smallest_metadata() if metadata is None else metadata
    if shapes is None:
        shapes = {to_gguf(name): shape for name, shape in expected_shapes(SMALLEST).items()}
    rng = np.random.default_rng(1)
    file = Marked()
    file.data += b"GGUF"
    file.put("I", 3, mark="type")
    file.put("Q", len(shapes), mark="length")
    file.put("Q", len(keys), mark="length")
    for key, (code, value) in keys.items():
        file.cut()
        file.text(key.encode())
        _put_value(file, code, value)
    blobs, offset = [], 0
    for index, (name, shape) in enumerate(shapes.items()):
        file.cut()
        format = FORMATS["F32" if len(shape) == 1 else formats[index % len(formats)]]
        rows = int(np.prod(shape[:-1]))
        blob = rng.integers(0, 256, rows * format.row_bytes(shape[-1]), np.uint8).tobytes()
        file.text(name.encode())
        file.put("I", len(shape), mark="type")
        for size in shape[::-1]:
            file.put("Q", size, mark="length")
        file.put("I", format.ggml_id, mark="type")
        file.put("Q", offset, mark="length")
        blobs.append(blob.ljust(-(-len(blob) // align) * align, b"\0"))
        offset += len(blobs[-1])
    file.cut()
    file.data += bytes(-len(file.data) % align)
    for blob in blobs:
        file.cut()
        file.data += blob
    return file


def _put_value(file: Marked, code: str, value: object) -> None:
    file.put("I", GGUF_CODES[code[0]], mark="type")
    if code == "s":
        file.text(str(value).encode())
    elif code[0] == "[":
        assert isinstance(value, list)
        file.put("I", GGUF_CODES[code[1]], mark="type")
        file.put("Q", len(value), mark="length")
        for item in value:
            if code[1] == "s":
                file.text(item.encode())
            else:
                file.put(code[1], item)
    else:
        file.put(code, value)


def safetensors_bytes(header: object, data: bytes, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def smallest_header(
    config: Config = SMALLEST, dtype: str = "BF16"
) -> tuple[dict[str, dict[str, object]], bytes]:
    """Header and data of a one-layer Hugging Face file."""
    width, header, offset = {"BF16": 2, "F16": 2, "F32": 4}[dtype], {}, 0
    for name, shape in expected_shapes(config).items():
        end = offset + int(np.prod(shape)) * width
        header[to_huggingface(name)] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    return header, np.random.default_rng(2).integers(0, 256, offset, np.uint8).tobytes()


def smallest_json(config: Config = SMALLEST) -> dict[str, object]:
    from gemmary.weights.huggingface import config_to_json

    return config_to_json(config, "bfloat16")


def write_smallest_folder(folder: Path) -> Path:
    header, data = smallest_header()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(smallest_json()))
    (folder / "model.safetensors").write_bytes(safetensors_bytes(header, data))
    return folder


def smallest_folder(tmp_path: Path) -> Path:
    """The smallest Hugging Face folder."""
    return write_smallest_folder(tmp_path / "model")


def gguf_header(
    metadata: dict[str, GGUFValue], tensors: dict[str, tuple[tuple[int, ...], str]]
) -> tuple[bytes, int]:
    """A header, padded, for tensors (row-major shape, format) that follow side by side, and their bytes."""
    file, offset = Marked(), 0
    file.data += b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    for key, (code, value) in metadata.items():
        file.text(key.encode())
        _put_value(file, code, value)
    for name, (shape, kind) in tensors.items():
        format = FORMATS[kind]
        file.data += words(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape[::-1])
        file.put("IQ", format.ggml_id, offset)
        offset += -(-int(np.prod(shape[:-1])) * format.row_bytes(shape[-1]) // 32) * 32
    return bytes(file.data) + bytes(-len(file.data) % 32), offset


def with_head(path: Path, change: int) -> Path:
    """A GGUF file that repeats its table as output.weight, one byte changed by `change`."""
    shapes = {to_gguf(name): (shape, "F32") for name, shape in expected_shapes(SMALLEST).items()}
    shapes["output.weight"] = shapes["token_embd.weight"]
    header, size = gguf_header(smallest_metadata(), shapes)
    data = bytearray(size)
    data[-1] = change
    path.write_bytes(header + data)
    return path


def attempts(folder: Path) -> dict[str, Callable[[], None]]:
    """What writes files, by the last file that it writes."""
    return {
        "model.gguf": lambda: write_gguf(folder / "model.gguf", TINY, random_tensors(TINY), vocabulary(48)),
        "model.safetensors": lambda: write_safetensors(folder / "model.safetensors", random_tensors(TINY)),
        "config.json": lambda: write_folder(folder, TINY, random_tensors(TINY)),
    }
