from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch

from gemmary.errors import ModelFileError, UnsupportedModelError
from gemmary.weights.safetensors import HEADER_BYTES, read_safetensors, read_shards

from .seeds import safetensors_bytes

DTYPES = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F64": torch.float64,
    "I8": torch.int8,
    "U8": torch.uint8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_reads_what_the_package_writes(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    values = {name: (torch.randn(3, 5) * 9).to(dtype) for name, dtype in DTYPES.items()}
    safetensors.torch.save_file(values | {"scalar": torch.tensor(2.0)}, path, metadata={"format": "pt"})
    ours = read_safetensors(path)
    theirs = dict(safetensors.deserialize(path.read_bytes()))
    assert ours.metadata == {"format": "pt"}
    assert ours.tensors.keys() == theirs.keys()
    for name, entry in theirs.items():
        assert ours.tensors[name].shape == tuple(entry["shape"])
        assert ours.tensors[name].kind == entry["dtype"]
        assert ours.raw(name).tobytes() == bytes(entry["data"])


def test_only_floats_are_formats(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    safetensors.torch.save_file({name: torch.zeros(2, dtype=dtype) for name, dtype in DTYPES.items()}, path)
    known = {name for name, info in read_safetensors(path).tensors.items() if info.format is not None}
    assert known == {"F32", "F16", "BF16"}
    with pytest.raises(UnsupportedModelError, match="'F64' is F64, which Gemmary does not run"):
        read_safetensors(path).tensors["F64"].known_format()


def test_views_are_read_only(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", safetensors_bytes(one(), bytes(8)))
    with pytest.raises(ValueError, match="read-only"):
        read_safetensors(path).raw("a")[0] = 1


def one(**changes: object) -> dict[str, dict[str, object]]:
    return {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}}


def two(first: list[int], second: list[int]) -> dict[str, dict[str, object]]:
    return {
        "a": {"dtype": "U8", "shape": [first[1] - first[0]], "data_offsets": first},
        "b": {"dtype": "U8", "shape": [second[1] - second[0]], "data_offsets": second},
    }


def text(inner: str) -> bytes:
    """A header with one raw piece of JSON in the place of the shape."""
    return b'{"a":{"dtype":"F32","shape":%s,"data_offsets":[0,8]}}' % inner.encode()


DEEP = 100_000
ATTACKS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "ends within its header"),
    "7 bytes": (bytes(7), "ends within its header"),
    "length only": (struct.pack("<Q", 100), "ends within its header"),
    **{
        f"header of {n} bytes": (safetensors_bytes(one(), bytes(8), n), "ends within its header")
        for n in (1000, 1 << 31, 1 << 63, (1 << 64) - 1)
    },
    "header of 0 bytes": (safetensors_bytes(b"", b""), "does not begin with"),
    "header too short": (safetensors_bytes(one(), bytes(8), 10), "is not JSON"),
    "header far too long": (safetensors_bytes(b"{}".ljust(HEADER_BYTES + 1), b""), "a model needs less"),
    "space before the header": (safetensors_bytes(b" {}", b""), "does not begin with"),
    "byte order mark": (safetensors_bytes(b"\xef\xbb\xbf{}", b""), "does not begin with"),
    "array": (safetensors_bytes(b"[]", b""), "does not begin with"),
    "two objects": (safetensors_bytes(b"{}{}", b""), "is not JSON"),
    "not UTF-8": (safetensors_bytes(b'{"\xff":1}', b""), "is not UTF-8"),
    "lone surrogate": (
        safetensors_bytes(b'{"\\ud800":' + text("[2]")[5:-1] + b"}", bytes(8)),
        "is not UTF-8",
    ),
    "control character": (safetensors_bytes(b'{"\n":1}', b""), "is not JSON"),
    "key twice": (
        safetensors_bytes(text("[2]")[:-1] + b"," + text("[2]")[1:], bytes(8)),
        "has the key 'a' twice",
    ),
    "key twice, once escaped": (
        safetensors_bytes(text("[2]")[:-1] + b"," + text("[2]")[1:].replace(b'"a"', b'"\\u0061"'), bytes(8)),
        "has the key 'a' twice",
    ),
    "field twice": (
        safetensors_bytes(b'{"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}', bytes(8)),
        "has the key 'dtype' twice",
    ),
    "shape NaN": (safetensors_bytes(text("[NaN]"), bytes(8)), "holds NaN"),
    "shape Infinity": (safetensors_bytes(text("[-Infinity]"), bytes(8)), "holds -Infinity"),
    "shape 2.0": (safetensors_bytes(text("[2.0]"), bytes(8)), "improper shape"),
    "shape 2e0": (safetensors_bytes(text("[2e0]"), bytes(8)), "improper shape"),
    "shape true": (safetensors_bytes(text("[2, true]"), bytes(8)), "improper shape"),
    "shape text": (safetensors_bytes(text('["2"]'), bytes(8)), "improper shape"),
    "shape null": (safetensors_bytes(text("null"), bytes(8)), "improper shape"),
    "shape -2": (safetensors_bytes(text("[-2]"), bytes(8)), "improper shape"),
    "shape -0": (safetensors_bytes(text("[2, -0]"), bytes(8)), "not a proper whole number"),
    "shape 02": (safetensors_bytes(text("[02]"), bytes(8)), "is not JSON"),
    "shape of 5,000 digits": (
        safetensors_bytes(text(f"[{'9' * 5000}]"), bytes(8)),
        "not a proper whole number",
    ),
    "shape 0 x 2^63": (
        safetensors_bytes({"a": {"dtype": "F32", "shape": [0, 1 << 63], "data_offsets": [0, 0]}}, b""),
        "improper shape",
    ),
    "shape that wraps to 2": (safetensors_bytes(text("[2147483647, 2147483647, 8]"), bytes(8)), "8 bytes"),
    "9 sides": (safetensors_bytes(text("[2,1,1,1,1,1,1,1,1]"), bytes(8)), "improper shape"),
    "shape nested deeply": (safetensors_bytes(text("[" * DEEP + "]" * DEEP), bytes(8)), "nested|improper"),
    "too many lists": (safetensors_bytes(b'{"a":' + b"[" * 300_000, b""), "more lists and groups"),
    "unknown dtype": (safetensors_bytes(one(dtype="F31"), bytes(8)), "unknown dtype 'F31'"),
    "dtype a list": (safetensors_bytes(one(dtype=["F32"]), bytes(8)), "unknown dtype"),
    "a field too many": (
        safetensors_bytes(one(extra=1), bytes(8)),
        "must have dtype, shape and data_offsets",
    ),
    "a field missing": (safetensors_bytes({"a": {"dtype": "F32"}}, bytes(8)), "must have dtype"),
    "entry a list": (safetensors_bytes({"a": []}, b""), "must have dtype"),
    "offsets reversed": (safetensors_bytes(one(data_offsets=[8, 0]), bytes(8)), "which is not what"),
    "offsets too far": (safetensors_bytes(one(data_offsets=[0, 12]), bytes(8)), "which is not what F32"),
    "three offsets": (
        safetensors_bytes(one(data_offsets=[0, 8, 8]), bytes(8)),
        "improper shape or data_offsets",
    ),
    "offset 2^63": (
        safetensors_bytes(one(data_offsets=[1 << 63, (1 << 63) + 8]), bytes(8)),
        "improper shape or data_offsets",
    ),
    "overlap": (safetensors_bytes(two([0, 8], [4, 12]), bytes(12)), "'b' overlaps"),
    "same place": (safetensors_bytes(two([0, 8], [0, 8]), bytes(8)), "overlaps"),
    "hole": (safetensors_bytes(two([0, 8], [9, 17]), bytes(17)), "'b' leaves a hole"),
    "hole at the start": (safetensors_bytes(two([1, 8], [8, 9]), bytes(9)), "'a' leaves a hole"),
    "bytes at the end": (safetensors_bytes(one(), bytes(9)), "has bytes after its tensors"),
    "byte missing": (safetensors_bytes(one(), bytes(7)), "is the download complete"),
    "metadata a number": (safetensors_bytes({"__metadata__": {"a": 1}, **one()}, bytes(8)), "texts only"),
    "metadata a list": (safetensors_bytes({"__metadata__": [], **one()}, bytes(8)), "texts only"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_is_told_by_name(name: str, tmp_path: Path) -> None:
    data, sentence = ATTACKS[name]
    path = write(tmp_path / "bad.safetensors", data)
    with pytest.raises(ModelFileError, match=sentence) as caught:
        read_safetensors(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value)) < len(str(path)) + 200


def test_file_cut_anywhere_is_told(tmp_path: Path) -> None:
    whole = safetensors_bytes(two([0, 8], [8, 16]), bytes(16))
    path = write(tmp_path / "cut.safetensors", whole)
    for length in reversed(range(len(whole))):
        os.truncate(path, length)
        with pytest.raises(ModelFileError):
            read_safetensors(path)


SHARDS = {"model-00001-of-00002.safetensors": ["a", "b"], "model-00002-of-00002.safetensors": ["c"]}


def sharded(folder: Path, change: Callable[[dict[str, object]], object] = lambda _: None) -> Path:
    """A folder of two shards; `change` spoils the index's weight_map. Returns the index."""
    folder.mkdir(exist_ok=True)
    where: dict[str, object] = {}
    for shard, names in SHARDS.items():
        safetensors.torch.save_file(
            {name: torch.full((2, 2), float(ord(name))) for name in names}, folder / shard
        )
        where |= dict.fromkeys(names, shard)
    changed = change(where)
    index = folder / "model.safetensors.index.json"
    index.write_text(
        json.dumps({"metadata": {"total_size": 48}, "weight_map": where if changed is None else changed})
    )
    return index


def test_shards_read_as_one(tmp_path: Path) -> None:
    file = read_shards(sharded(tmp_path))
    assert {name: file.raw(name).view(np.float32)[0] for name in file.tensors} == {"a": 97, "b": 98, "c": 99}
    assert file.size == sum((tmp_path / shard).stat().st_size for shard in SHARDS)


FIRST, SECOND = SHARDS
BAD_NAMES = (
    "../x.safetensors",
    "/etc/passwd",
    "sub/x.safetensors",
    "..",
    ".safetensors/../x.safetensors",
    "x.bin",
    "",
    "x.safetensors\n",
    "x.safetensors\0",
    "C:\\x.safetensors",
    "ü.safetensors",
    3,
    None,
    ["x.safetensors"],
    True,
)
INDEX_ATTACKS: dict[str, tuple[Callable[[dict[str, object]], object], str]] = {
    **{
        f"shard {name!r}": (lambda where, n=name: where.update(a=n), "not a bare file name")
        for name in BAD_NAMES
    },
    "shard that is not there": (lambda where: where.update(a="0.safetensors"), "No such file"),
    "tensor in the other shard": (
        lambda where: where.update(a=SECOND),
        "'a', which the index puts elsewhere",
    ),
    "tensor in no shard": (lambda where: where.update(d=SECOND), "promises tensor 'd'"),
    "tensor that the index forgets": (lambda where: where.pop("b") and None, "'b', which the index puts"),
    "weight_map a list": (lambda where: list(where), "has no weight_map"),
    "weight_map empty": (lambda where: [], "has no weight_map"),
    "2,000 shards": (lambda where: {str(i): f"{i}.safetensors" for i in range(2000)}, "names 2,000 shards"),
}


@pytest.mark.parametrize("name", INDEX_ATTACKS)
def test_attack_on_the_index_is_told_by_name(name: str, tmp_path: Path) -> None:
    change, sentence = INDEX_ATTACKS[name]
    with pytest.raises(ModelFileError, match=sentence):
        read_shards(sharded(tmp_path, change))


def test_tensor_in_two_shards_is_told(tmp_path: Path) -> None:
    index = sharded(tmp_path)
    safetensors.torch.save_file({"c": torch.zeros(2, 2), "a": torch.zeros(2, 2)}, tmp_path / SECOND)
    with pytest.raises(ModelFileError, match="'a', which the index puts elsewhere"):
        read_shards(index)


def test_shard_linked_out_of_its_folder_is_told(tmp_path: Path) -> None:
    index = sharded(tmp_path / "model")
    outside = (tmp_path / "model" / SECOND).rename(tmp_path / "outside.safetensors")
    (tmp_path / "model" / SECOND).symlink_to(outside)
    with pytest.raises(ModelFileError, match="link to a file outside of its folder; copy the file"):
        read_shards(index)


def test_links_within_the_folder_and_into_the_hugging_face_cache_are_followed(tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "snapshots" / "0123", tmp_path / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    index = sharded(snapshot)
    (snapshot / FIRST).rename(blobs / "abc")
    (snapshot / FIRST).symlink_to("../../blobs/abc")
    (snapshot / SECOND).rename(snapshot / "other")
    (snapshot / SECOND).symlink_to("other")
    assert list(read_shards(index).tensors) == ["a", "b", "c"]


def test_blobs_that_the_whole_cache_shares_are_followed(tmp_path: Path) -> None:
    """huggingface_hub 2.4: <cache>/models--x/blobs/<etag> -> <cache>/blobs/<2 digits>/<hash>."""
    repository, shared = tmp_path / "models--org--x", tmp_path / "blobs" / "ab"
    snapshot = repository / "snapshots" / "0123"
    for folder in (snapshot, repository / "blobs", shared):
        folder.mkdir(parents=True)
    index = sharded(snapshot)
    (snapshot / FIRST).rename(shared / "abcdef")
    (repository / "blobs" / "etag").symlink_to("../../blobs/ab/abcdef")
    (snapshot / FIRST).symlink_to("../../blobs/etag")
    assert list(read_shards(index).tensors) == ["a", "b", "c"]
    (shared / "abcdef").rename(repository / "elsewhere")
    (repository / "blobs" / "etag").unlink()
    (repository / "blobs" / "etag").symlink_to("../elsewhere")
    with pytest.raises(ModelFileError, match="link to a file outside of its folder"):
        read_shards(index)


def test_link_to_itself_is_told(tmp_path: Path) -> None:
    index = sharded(tmp_path)
    (tmp_path / SECOND).unlink()
    (tmp_path / SECOND).symlink_to(SECOND)
    with pytest.raises(ModelFileError):
        read_shards(index)
