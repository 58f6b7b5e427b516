"""Reads spoilt files under limits, in a process of its own.

    python -m tests.weights.fuzz_worker KIND SEED START COUNT

Before each file it says its index, so that the last one said is the culprit if the process dies. A file must
be refused with a documented error, or read exactly as the reference package reads it; within 2 seconds; and
in at most twice its size + 64 MiB of memory (docs/RELIABILITY.md, row 1).
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # threads reserve address space, which is limited here

import json
import resource
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import safetensors

from gemmary.config import Config
from gemmary.errors import ModelFileError, UnsupportedModelError
from gemmary.weights.checkpoint import open_checkpoint
from gemmary.weights.gguf import GGUFFile, read_gguf
from gemmary.weights.huggingface import config_from_json
from gemmary.weights.names import to_gguf
from gemmary.weights.safetensors import read_safetensors, read_shards
from gemmary.weights.strictjson import parse_object
from gemmary.weights.vision import open_vision
from gemmary.weights.visionnames import vision_shapes

from . import seeds
from .mutations import mutant
from .peak import forget, peak

SECONDS = 2.0
SLACK = 64 << 20
ADDRESSES = 1 << 30  # bytes of address space above what the imports took
REFUSED = (ModelFileError, UnsupportedModelError)


class Slow(BaseException):
    """More than SECONDS on one file."""


class Different(Exception):
    """Read, but not as the reference reads it."""


def read_gguf_file(path: Path) -> None:
    """The header as the `gguf` package sees it; then the model."""
    file = read_gguf(path)
    if all(info.format is not None for info in file.tensors.values()):
        _same_as_package(file)  # it has its own list of formats, and refuses all others
    checkpoint = open_checkpoint(path)
    for name, tensor in checkpoint.tensors.items():
        if tensor.raw.tobytes() != file.raw(to_gguf(name)).tobytes():
            raise Different(name)
    _sane(checkpoint.config)


def read_mmproj_file(path: Path) -> None:
    """The header as the `gguf` package sees it; then the picture half, in the shapes that its config says."""
    file = read_gguf(path)
    if all(info.format is not None for info in file.tensors.values()):
        _same_as_package(file)
    vision = open_vision(path)
    shapes = vision_shapes(vision.config, vision.text_width)
    for name, tensor in vision.tensors.items():
        if tensor.shape != shapes[name] or tensor.format.row_bytes(tensor.elements) != tensor.nbytes:
            raise Different(name)


def _same_as_package(file: GGUFFile) -> None:
    reader = gguf.GGUFReader(file.path)
    fields = {name: field for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    if list(fields) != list(file.metadata):
        raise Different("keys")
    for name, value in file.metadata.items():
        field = fields[name]
        ours: Any = value.tolist() if isinstance(value, np.ndarray) else value
        texts = isinstance(value, list)  # of bytes, which need not be UTF-8
        theirs = [bytes(field.parts[part]) for part in field.data] if texts else field.contents()
        if repr(ours) != repr(theirs):  # by text: NaN differs from itself
            raise Different(f"{name}: {ours!r:.50} is not {theirs!r:.50}")
    if [tensor.name for tensor in reader.tensors] != list(file.tensors):
        raise Different("tensors")
    for tensor in reader.tensors:
        info = file.tensors[tensor.name]
        if info.shape != tuple(tensor.shape.tolist()[::-1]) or info.offset != tensor.data_offset:
            raise Different(tensor.name)
        if info.raw().tobytes() != tensor.data.tobytes():
            raise Different(tensor.name)


def read_safetensors_file(path: Path) -> None:
    ours = read_safetensors(path)
    theirs = dict(safetensors.deserialize(path.read_bytes()))
    if ours.tensors.keys() != theirs.keys():
        raise Different("names")
    for name, entry in theirs.items():
        info = ours.tensors[name]
        if (list(info.shape), info.kind) != (list(entry["shape"]), entry["dtype"]):
            raise Different(name)
        if info.raw().tobytes() != bytes(entry["data"]):
            raise Different(name)


def read_index_file(path: Path) -> None:
    header, data = seeds.smallest_header()
    (path.parent / "a.safetensors").write_bytes(seeds.safetensors_bytes(header, data))
    file = read_shards(path)
    if (
        file.tensors.keys() != header.keys()
        or file.tensors.keys() != json.loads(path.read_bytes())["weight_map"].keys()
    ):
        raise Different("names")


def read_config_file(path: Path) -> None:
    values = parse_object(path.read_bytes(), path)
    if repr(values) != repr(json.loads(path.read_bytes())):
        raise Different("json")
    _sane(config_from_json(values, path))


def _sane(config: Config) -> None:
    """What the engine may rely on."""
    numbers = (config.query_scalar, config.norm_eps, config.rope_local.theta, config.rope_global.theta)
    if not all(0 < number < 1e13 for number in numbers) or not 1 <= config.rope_global.factor <= 1024:
        raise Different("a number of the config is out of range")
    if (
        config.heads % config.kv_heads
        or config.layers > 512
        or max(config.global_layers or (0,)) >= config.layers
    ):
        raise Different("a size of the config is out of range")


def read_with_the_package(path: Path) -> None:
    """The known bad baseline: the `gguf` package itself, whose lengths have no bound."""
    gguf.GGUFReader(path)


READERS = {
    "gguf": read_gguf_file,
    "mmproj": read_mmproj_file,
    "safetensors": read_safetensors_file,
    "index": read_index_file,
    "config": read_config_file,
    "baseline": read_with_the_package,
}


def limit() -> None:
    """Bound the address space, and turn slowness into an exception."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + ADDRESSES, taken + ADDRESSES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def slow(*_: object) -> None:
        raise Slow

    signal.signal(signal.SIGALRM, slow)


def check(kind: str, path: Path) -> bool:
    """Whether the file at `path` was accepted. Any other exception than REFUSED is a finding."""
    forget()
    before = peak()
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        READERS[kind](path)
        accepted = True
    except REFUSED:
        accepted = False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    if peak() - before > 2 * path.stat().st_size + SLACK:
        raise MemoryError(f"{(peak() - before) >> 20} MiB")
    return accepted


def main(kind: str, seed: int, start: int, count: int) -> None:
    accepted = 0
    limit()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spoilt"
        for index in range(start, start + count):
            print(index, flush=True)
            if kind == "baseline":
                path.write_bytes(
                    bytes.fromhex("47475546 03000000 0000000000000000 0100000000000000")
                    + seeds.words("x")
                    + bytes.fromhex("09000000 00000000 0000000000000080")
                )
            else:
                path.write_bytes(mutant(kind, seed, index))
            accepted += check(kind, path)
    print("accepted", accepted, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:5]))
