"""safetensors files: a bounded reader with the format's own rules.

A file is 8 bytes of header length, a JSON header, and the tensors side by side, without holes, to the last
byte. The header is read, never a tensor. What is accepted here, the `safetensors` package accepts too.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import BinaryIO

from ..errors import ModelFileError
from ..formats import FORMATS
from .fields import DIMENSION, shown
from .mapped import Bytes, MappedFile, open_regular
from .strictjson import parse_object, read_object
from .tensor import TensorInfo

HEADER_BYTES = 4 << 20  # 27B needs 0.2 MB; the format allows 100 MB, which is a way to stall a reader
INDEX_BYTES = 4 << 20
DIMENSIONS = 8
SHARDS = 1024
# Bytes an element. Only the last three hold weights that Gemmary runs.
WIDTHS = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "I16": 2, "U16": 2, "I32": 4, "U32": 4,
    "I64": 8, "U64": 8, "F64": 8, "F16": 2, "BF16": 2, "F32": 4,
}  # fmt: skip
SHARD_NAME = re.compile(r"[\w.-]+\.safetensors", re.ASCII)


class SafetensorsFile:
    """Tensors of one file or of all shards, in the order of their offsets; `size` is their bytes on disk."""

    def __init__(
        self, path: Path, tensors: dict[str, TensorInfo], metadata: dict[str, object], size: int
    ) -> None:
        self.path = path
        self.tensors = tensors
        self.metadata = metadata
        self.size = size

    def raw(self, name: str) -> Bytes:
        """The stored bytes of a tensor: a read-only view [nbytes] of the memory map."""
        return self.tensors[name].raw()


def read_safetensors(path: str | os.PathLike[str]) -> SafetensorsFile:
    """Parse the header of one file and map its tensors. ModelFileError names what is wrong."""
    path = Path(path)
    with open_regular(path) as file:
        try:
            header, start, size = _header(path, file)
        except OSError as error:
            raise ModelFileError(path, f"cannot be read: {error.strerror}") from error
        mapped = MappedFile(path, file)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ModelFileError(path, "__metadata__ must hold texts only")
    infos = [_info(name, entry, start, mapped) for name, entry in header.items()]
    infos.sort(key=lambda info: (info.offset, info.nbytes))
    _check_contiguous(path, infos, start, size)
    return SafetensorsFile(path, {info.name: info for info in infos}, metadata, size)


def read_shards(index: str | os.PathLike[str]) -> SafetensorsFile:
    """All shards of a `model.safetensors.index.json` as one; each tensor must be where the index says."""
    index = Path(index)
    where = read_object(index, INDEX_BYTES).get("weight_map")
    if not isinstance(where, dict) or not where:
        raise ModelFileError(index, "has no weight_map")
    for shard in where.values():
        if not isinstance(shard, str) or not SHARD_NAME.fullmatch(shard):
            raise ModelFileError(index, f"names the shard {shown(shard)}, which is not a bare file name")
    shards = sorted(set(where.values()))
    if len(shards) > SHARDS:
        raise ModelFileError(index, f"names {len(shards):,} shards, more than {SHARDS:,}")
    tensors: dict[str, TensorInfo] = {}
    size = 0
    for shard in shards:
        part = read_safetensors(inside(index.parent, shard))
        for name, info in part.tensors.items():
            if where.get(name) != shard:
                raise ModelFileError(part.path, f"holds tensor {shown(name)}, which the index puts elsewhere")
            tensors[name] = info
        size += part.size
    missing = [name for name in where if name not in tensors]
    if missing:
        name = missing[0]
        raise ModelFileError(index, f"promises tensor {shown(name)}, which is not in {where[name]}")
    return SafetensorsFile(index, tensors, {}, size)


def inside(folder: Path, name: str) -> Path:
    """`folder / name`; ModelFileError when it is a link that leads out of the folder.

    The Hugging Face cache is the exception: its snapshots link to `blobs` of their repository, and since
    huggingface_hub 2 these may link to `blobs/<two digits>` of the whole cache.
    """
    path = folder / name
    if path.is_symlink():
        home, target = Path(os.path.realpath(folder)), Path(os.path.realpath(path))
        if target.parent != home and not _is_blob(home, target):
            raise ModelFileError(path, "is a link to a file outside of its folder; copy the file instead")
    return path


def _is_blob(folder: Path, target: Path) -> bool:
    """Whether `folder` is a snapshot, and `target` what the cache keeps for its repository or for all."""
    if folder.parent.name != "snapshots":
        return False
    repository = folder.parents[1]
    return target.parent == repository / "blobs" or target.parent.parent == repository.parent / "blobs"


def _header(path: Path, file: BinaryIO) -> tuple[dict[str, object], int, int]:
    """The header, where the data begins, and the size of the file."""
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > size - 8:
        raise ModelFileError(path, "ends within its header: is the download complete?")
    if length > HEADER_BYTES:
        raise ModelFileError(path, f"has a header of {length:,} bytes; a model needs less")
    data = file.read(length)
    if data[:1] != b"{":
        raise ModelFileError(path, "is not a safetensors file: its header does not begin with '{'")
    return parse_object(data, path), 8 + length, size


def _info(name: str, entry: object, start: int, file: MappedFile) -> TensorInfo:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ModelFileError(file.path, f"tensor {shown(name)} must have dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in WIDTHS:
        raise ModelFileError(file.path, f"tensor {shown(name)} has the unknown dtype {shown(dtype)}")
    if not _sizes(shape) or len(shape) > DIMENSIONS or not _sizes(offsets, 1 << 63) or len(offsets) != 2:
        raise ModelFileError(file.path, f"tensor {shown(name)} has an improper shape or data_offsets")
    begin, end = offsets
    if end - begin != math.prod(shape) * WIDTHS[dtype]:
        has = f"has {end - begin:,} bytes, which is not what {dtype} {shape} takes"
        raise ModelFileError(file.path, f"tensor {shown(name)} {has}")
    return TensorInfo(name, tuple(shape), FORMATS.get(dtype), dtype, start + begin, end - begin, file)


def _sizes(values: object, limit: int = DIMENSION) -> bool:
    """Whether `values` is a list of ints (True is not one) from 0 to below `limit`."""
    return isinstance(values, list) and all(type(value) is int and 0 <= value < limit for value in values)


def _check_contiguous(path: Path, infos: list[TensorInfo], start: int, size: int) -> None:
    end = start
    for info in infos:
        if info.offset != end:
            where = "overlaps" if info.offset < end else "leaves a hole after"
            raise ModelFileError(path, f"tensor {shown(info.name)} {where} the tensor before it")
        end += info.nbytes
    if end != size:
        fault = (
            "ends within its tensors: is the download complete?"
            if end > size
            else "has bytes after its tensors"
        )
        raise ModelFileError(path, fault)
