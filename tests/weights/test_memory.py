"""Files made to be expensive: read or refused in at most twice their size + 64 MiB, and within 5 seconds."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gemmary.weights.safetensors import HEADER_BYTES

from . import seeds

ROOT = Path(__file__).parents[2]


def gguf_array(kind: int, count: int, item: bytes) -> bytes:
    """A GGUF file of one metadata array."""
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + seeds.words("tokenizer.ggml.tokens")
    return head + struct.pack("<IIQ", 9, kind, count) + item * count


def gguf_texts() -> bytes:
    """15 texts of 1 MiB, in which one letter outside the usual planes makes Python take 4 bytes for each."""
    text = struct.pack("<IQ", 8, 1 << 20) + b"a" * ((1 << 20) - 4) + "🙂".encode()
    keys = [seeds.words(f"text{index}") + text for index in range(15)]
    return b"GGUF" + struct.pack("<IQQ", 3, 0, len(keys)) + b"".join(keys)


def gguf_tensors() -> bytes:
    """As many tensors as are allowed."""
    count = 65_536
    entries = [seeds.words(f"t{index}") + struct.pack("<IQIQ", 1, 8, 0, 32 * index) for index in range(count)]
    head = b"GGUF" + struct.pack("<IQQ", 3, count, 0) + b"".join(entries)
    return head + bytes(-len(head) % 32) + bytes(32 * count)


def header_of(piece: str) -> bytes:
    """A safetensors header as long as is allowed, full of small things."""
    times = (HEADER_BYTES - 30) // len(piece)
    return seeds.safetensors_bytes(f'{{"a":[{piece * times}0]}}'.encode(), b"")


def header_of_tensors() -> bytes:
    entry = '"%d":{"dtype":"F32","shape":[],"data_offsets":[%d,%d]}'
    entries = [entry % (index, 4 * index, 4 * index + 4) for index in range(60_000)]
    return seeds.safetensors_bytes(f"{{{','.join(entries)}}}".encode(), bytes(4 * len(entries)))


def index_of_tensors() -> bytes:
    return json.dumps(
        {"weight_map": {f"tensor.{index}": "a.safetensors" for index in range(120_000)}}
    ).encode()


FILES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "2^20 short strings": ("gguf.read_gguf", lambda: gguf_array(8, 1 << 20, struct.pack("<Q", 2) + b"ab")),
    "2^20 empty strings": ("gguf.read_gguf", lambda: gguf_array(8, 1 << 20, bytes(8))),
    "30 million bytes": ("gguf.read_gguf", lambda: gguf_array(0, 30_000_000, b"\1")),
    "4 million reals": ("gguf.read_gguf", lambda: gguf_array(12, 4_000_000, bytes(8))),
    "long texts": ("gguf.read_gguf", gguf_texts),
    "65,536 tensors in GGUF": ("gguf.read_gguf", gguf_tensors),
    "header of lists": ("safetensors.read_safetensors", lambda: header_of("[],")),
    "header of objects": ("safetensors.read_safetensors", lambda: header_of("{},")),
    "header of short texts": ("safetensors.read_safetensors", lambda: header_of('"ab",')),
    "header of numbers": ("safetensors.read_safetensors", lambda: header_of("999,")),
    "header of long numbers": ("safetensors.read_safetensors", lambda: header_of("9" * 4000 + ",")),
    "header of nested lists": ("safetensors.read_safetensors", lambda: header_of("[")),
    "header of tensors": ("safetensors.read_safetensors", header_of_tensors),
    "index of tensors": ("safetensors.read_shards", index_of_tensors),
}


@pytest.mark.parametrize("name", FILES)
def test_memory_and_time_are_bounded(name: str, tmp_path: Path) -> None:
    reader, build = FILES[name]
    path = tmp_path / "a.safetensors"
    path.write_bytes(build())
    module, function = reader.split(".")
    script = (
        "import sys, time\n"
        "from tests.weights.peak import peak\n"
        "from gemmary.errors import GemmaryError\n"
        f"from gemmary.weights.{module} import {function}\n"
        "before, start = peak(), time.perf_counter()\n"
        "try:\n"
        f"    kept = {function}(sys.argv[1])\n"
        "except GemmaryError as error:\n"
        "    kept = error\n"
        "print(peak() - before, time.perf_counter() - start, str(kept)[:200])\n"
    )
    command = [sys.executable, "-c", script, str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    grown, seconds, _ = done.stdout.split(" ", 2)
    assert 0 <= int(grown) <= 2 * path.stat().st_size + (64 << 20)
    assert float(seconds) < 5
