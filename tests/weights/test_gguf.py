from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest

from gemmary.errors import ModelFileError, UnsupportedModelError
from gemmary.formats import FORMATS
from gemmary.weights.gguf import read_gguf

from . import seeds


def write(path: Path, data: bytes | bytearray) -> Path:
    path.write_bytes(data)
    return path


def reference_file(path: Path) -> None:
    """Every metadata type and every number format, by the `gguf` package."""
    writer = gguf.GGUFWriter(path, "gemma3")
    for kind in ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"):
        getattr(writer, f"add_{kind}")(f"whole.{kind}", 100)
    writer.add_float32("real.32", 0.1)
    writer.add_float64("real.64", 0.1)
    writer.add_bool("truth", True)
    writer.add_string("text", "Grüße, 你好 🙂")
    writer.add_array("texts", ["a", "", "é", "x" * 1000])
    writer.add_array("wholes", [1, -2, 3])
    writer.add_array("reals", [0.5, -1.5])
    writer.add_array("truths", [True, False, True])
    rng = np.random.default_rng(0)
    for name, format in FORMATS.items():
        raw = rng.integers(0, 256, (3, format.row_bytes(512)), np.uint8)
        writer.add_tensor(f"matrix.{name}", raw, raw_dtype=gguf.GGMLQuantizationType(format.ggml_id))
    writer.add_tensor("vector", rng.normal(size=5).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_reads_what_the_gguf_package_writes(tmp_path: Path) -> None:
    path = tmp_path / "all.gguf"
    reference_file(path)
    ours, theirs = read_gguf(path), gguf.GGUFReader(path)
    assert list(ours.tensors) == [tensor.name for tensor in theirs.tensors]
    for tensor in theirs.tensors:
        info = ours.tensors[tensor.name]
        assert info.shape == tuple(reversed(tensor.shape.tolist()))
        assert info.kind == tensor.tensor_type.name
        assert info.offset == tensor.data_offset
        assert ours.raw(tensor.name).tobytes() == tensor.data.tobytes()
    fields = {name: field for name, field in theirs.fields.items() if not name.startswith("GGUF.")}
    assert list(ours.metadata) == list(fields)
    for name, field in fields.items():
        value = ours.metadata[name]
        if isinstance(value, list):
            value = [item.decode() for item in value]
        assert (value.tolist() if isinstance(value, np.ndarray) else value) == field.contents()


def test_metadata_keeps_python_and_element_types(tmp_path: Path) -> None:
    path = tmp_path / "all.gguf"
    reference_file(path)
    metadata = read_gguf(path).metadata
    assert type(metadata["whole.int64"]) is int
    assert type(metadata["real.32"]) is float
    assert metadata["truth"] is True
    assert metadata["wholes"].dtype == np.int32  # type: ignore[attr-defined]
    assert metadata["reals"].dtype == np.float32  # type: ignore[attr-defined]
    assert metadata["truths"].dtype == np.bool_  # type: ignore[attr-defined]


def test_tensors_are_read_only_views_of_the_file(tmp_path: Path) -> None:
    file = read_gguf(write(tmp_path / "a.gguf", seeds.smallest_gguf().data))
    raw = file.raw("output_norm.weight")
    with pytest.raises(ValueError, match="read-only"):
        raw[0] = 1


def test_another_alignment_is_honoured(tmp_path: Path) -> None:
    keys = {**seeds.smallest_metadata(), "general.alignment": ("I", 256)}
    path = write(tmp_path / "a.gguf", seeds.smallest_gguf(keys, align=256).data)
    theirs = {tensor.name: tensor.data.tobytes() for tensor in gguf.GGUFReader(path).tensors}
    ours = read_gguf(path)
    assert {name: ours.raw(name).tobytes() for name in ours.tensors} == theirs


def test_version_2_reads_like_version_3(tmp_path: Path) -> None:
    data = seeds.smallest_gguf().data
    data[4] = 2
    assert len(read_gguf(write(tmp_path / "a.gguf", data)).tensors) == 15


def test_formats_that_are_not_run_are_named_only_when_needed(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    writer = gguf.GGUFWriter(path, "gemma3")
    raw = np.arange(2 * 110, dtype=np.uint8).reshape(2, 110)
    writer.add_tensor("odd", raw, raw_dtype=gguf.GGMLQuantizationType.Q3_K)
    writer.add_tensor("usual", np.ones(32, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file = read_gguf(path)
    assert file.raw("usual").view(np.float32).tolist() == [1.0] * 32
    assert file.raw("odd")[: raw.size].tobytes() == raw.tobytes()
    with pytest.raises(UnsupportedModelError, match="'odd' is Q3_K, which Gemmary does not run; take a file"):
        file.tensors["odd"].known_format()


def test_a_vocabulary_of_gemmas_size_parses_at_once(tmp_path: Path) -> None:
    keys = {"tokenizer.ggml.tokens": ("[s", [f"piece {index}" for index in range(262_144)])}
    path = write(tmp_path / "a.gguf", seeds.smallest_gguf(keys).data)  # type: ignore[arg-type]
    times = []
    for _ in range(3):  # the quickest: another process may hold the processor
        start = time.perf_counter()
        file = read_gguf(path)
        times.append(time.perf_counter() - start)
    assert min(times) < 1
    assert file.metadata["tokenizer.ggml.tokens"][-1] == b"piece 262143"  # type: ignore[index]


# One rule a row: how the smallest file is spoilt, and what the reader must say.


def at(position: int, format: str, *values: object) -> Callable[[seeds.Marked], bytes]:
    def spoil(file: seeds.Marked) -> bytes:
        struct.pack_into("<" + format, file.data, position, *values)
        return bytes(file.data)

    return spoil


def key(name: str, code: str, value: object) -> Callable[[seeds.Marked], bytes]:
    return lambda _: bytes(seeds.smallest_gguf({**seeds.smallest_metadata(), name: (code, value)}).data)


def raw_key(body: bytes) -> Callable[[seeds.Marked], bytes]:
    """A file of one key, of which `body` is the type and value."""
    return lambda _: b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + seeds.words("k") + body


def tensors(
    *entries: tuple[str, tuple[int, ...], int, int], data: int = 4096
) -> Callable[[seeds.Marked], bytes]:
    """A file of tensors (name, dims as stored, ggml type, offset) and `data` bytes."""

    def build(_: seeds.Marked) -> bytes:
        file = b"GGUF" + struct.pack("<IQQ", 3, len(entries), 0)
        for name, dims, kind, offset in entries:
            file += seeds.words(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)
        return file + bytes(-len(file) % 32) + bytes(data)

    return build


HUGE = (1 << 31, (1 << 32) - 1, 1 << 63, (1 << 64) - 1)
ATTACKS: dict[str, tuple[Callable[[seeds.Marked], bytes], str]] = {
    "empty": (lambda _: b"", "is not a GGUF file"),
    "magic": (at(0, "4s", b"GGML"), "is not a GGUF file"),
    "magic only": (lambda _: b"GGUF", "is not a GGUF file"),
    "43 bytes, array of 2^63": (
        lambda _: (
            b"GGUF"
            + struct.pack("<IQQ", 3, 0, 1)
            + seeds.words("x")
            + struct.pack("<IIQ", 9, 0, 1 << 63)[:10]
        ),
        "runs past the end",
    ),
    **{f"{n} tensors": (at(8, "Q", n), "more than any model has") for n in HUGE},
    **{f"{n} keys": (at(16, "Q", n), "more than any model has") for n in HUGE},
    "a key more than there is": (at(16, "Q", 20), "more than the 64 allowed"),
    **{f"key of {n} bytes": (at(24, "Q", n), "more than the 65,535 allowed") for n in HUGE},
    **{
        f"array of {n} numbers of type {kind}": (
            raw_key(struct.pack("<IIQ", 9, kind, n) + bytes(64)),
            "runs past the end",
        )
        for n in HUGE
        for kind in (0, 5, 6, 7, 12)
    },
    **{
        f"array of {n} strings": (
            raw_key(struct.pack("<IIQ", 9, 8, n) + bytes(64)),
            "more than the file can hold",
        )
        for n in HUGE
    },
    **{
        f"string of {n} bytes": (
            raw_key(struct.pack("<IQ", 8, n) + bytes(64)),
            "more than the 1,048,576 allowed",
        )
        for n in HUGE
    },
    **{
        f"string of {n} bytes in an array": (
            raw_key(struct.pack("<IIQQ", 9, 8, 1, n) + bytes(64)),
            "too long or runs past",
        )
        for n in (65, *HUGE)
    },
    "nested array": (raw_key(struct.pack("<IIQ", 9, 9, 1) + bytes(64)), "array of arrays"),
    "value type 13": (raw_key(struct.pack("<I", 13) + bytes(64)), "unknown value type 13"),
    "element type 99": (raw_key(struct.pack("<IIQ", 9, 99, 1) + bytes(64)), "unknown value type 99"),
    "truth value 2": (raw_key(struct.pack("<IB", 7, 2) + bytes(64)), "neither 0 nor 1"),
    "text that is not UTF-8": (raw_key(struct.pack("<IQ2s", 8, 2, b"\xff\xfe")), "not UTF-8"),
    "key without a name": (
        lambda _: b"GGUF" + struct.pack("<IQQQIB", 3, 0, 1, 0, 0, 7) + bytes(32),
        "has an empty name",
    ),
    "key twice": (
        lambda _: b"GGUF" + struct.pack("<IQQ", 3, 0, 2) + 2 * (seeds.words("k") + struct.pack("<IB", 0, 7)),
        "'k' appears twice",
    ),
    **{
        f"alignment {n}": (key("general.alignment", "I", n), "power of two")
        for n in (0, 1, 33, 1 << 17, 1 << 31)
    },
    "alignment of the wrong type": (key("general.alignment", "Q", 32), "must be a whole number of 32 bits"),
    "alignment of another file": (key("general.alignment", "I", 256), "leaves a hole|overlaps"),
    "no dimensions": (tensors(("a", (), 0, 0)), "0 dimensions"),
    "5 dimensions": (tensors(("a", (1, 1, 1, 1, 1), 0, 0)), "5 dimensions"),
    "2^31 dimensions": (
        lambda _: (
            b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + seeds.words("a") + struct.pack("<I", 1 << 31) + bytes(99)
        ),
        "2147483648 dimensions",
    ),
    "side of zero": (tensors(("a", (0, 4), 0, 0)), "a side that is zero or too long"),
    **{f"side of {n}": (tensors(("a", (n, 4), 0, 0)), "a side that is zero or too long") for n in HUGE},
    "sides whose product wraps to 0": (tensors(("a", (1 << 30, 1 << 30, 16, 1), 0, 0)), "end of the file"),
    "half a block": (tensors(("a", (48, 4), 2, 0)), "not a multiple of the 32 of Q4_0"),
    "tensor twice": (tensors(("a", (8,), 0, 0), ("a", (8,), 0, 32)), "'a' appears twice"),
    "tensor without a name": (tensors(("", (8,), 0, 0)), "must have a name"),
    "name of 65 bytes": (tensors(("a" * 65, (8,), 0, 0)), "more than the 64 allowed"),
    "hole at the start": (tensors(("a", (8,), 0, 32)), "leaves a hole"),
    "hole in the middle": (tensors(("a", (8,), 0, 0), ("b", (8,), 0, 96)), "leaves a hole"),
    "overlap": (tensors(("a", (16,), 0, 0), ("b", (8,), 0, 32)), "overlaps"),
    "same place": (tensors(("a", (8,), 0, 0), ("b", (8,), 0, 0)), "overlaps"),
    "same place, unknown format": (tensors(("a", (8,), 99, 0), ("b", (8,), 99, 0)), "overlaps"),
    "offset not aligned": (tensors(("a", (7,), 0, 0), ("b", (8,), 0, 28)), "overlaps"),
    **{f"offset {n}": (tensors(("a", (8,), 0, n)), "hole") for n in HUGE},
    "longer than the file": (tensors(("a", (4096,), 0, 0)), "is the download complete"),
    "one byte short": (lambda file: bytes(file.data[:-1]), "is the download complete"),
    "something appended": (lambda file: bytes(file.data) + bytes(32), "32 more bytes follow"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_is_told_by_name(name: str, tmp_path: Path) -> None:
    spoil, sentence = ATTACKS[name]
    path = write(tmp_path / "bad.gguf", spoil(seeds.smallest_gguf()))
    start = time.perf_counter()
    with pytest.raises(ModelFileError, match=sentence) as caught:
        read_gguf(path)
    assert time.perf_counter() - start < 0.5
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value)) < len(str(path)) + 200


def test_file_cut_anywhere_in_its_header_is_told(tmp_path: Path) -> None:
    whole = seeds.smallest_gguf()
    path = write(tmp_path / "cut.gguf", whole.data)
    header = whole.cuts[len(seeds.smallest_metadata()) + 15]
    for length in reversed(range(header)):
        os.truncate(path, length)
        with pytest.raises(ModelFileError):
            read_gguf(path)


def test_file_cut_in_its_tensors_is_told(tmp_path: Path) -> None:
    whole = seeds.smallest_gguf()
    path = tmp_path / "cut.gguf"
    start = whole.cuts[len(seeds.smallest_metadata()) + 15]
    for length in np.linspace(start, len(whole.data) - 1, 200).astype(int):
        with pytest.raises(ModelFileError, match="download complete"):
            read_gguf(write(path, whole.data[:length]))


@pytest.mark.parametrize(("version", "word"), [(1, "version 1"), (4, "version 4"), (3 << 24, "big-endian")])
def test_other_versions_are_unsupported(version: int, word: str, tmp_path: Path) -> None:
    data = seeds.smallest_gguf().data
    struct.pack_into("<I", data, 4, version)
    with pytest.raises(UnsupportedModelError, match=f"{word}.*Convert the model again"):
        read_gguf(write(tmp_path / "a.gguf", data))


def test_what_is_not_a_file_is_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    for path in (tmp_path / "pipe.gguf", tmp_path):
        with pytest.raises(ModelFileError, match="not a regular file"):
            read_gguf(path)
    with pytest.raises(ModelFileError, match="No such file"):
        read_gguf(tmp_path / "absent.gguf")


def test_file_cut_short_after_opening_is_told_and_does_not_kill(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gguf", seeds.smallest_gguf().data)
    file = read_gguf(path)
    with path.open("r+b") as handle:
        handle.truncate(100)
    with pytest.raises(ModelFileError, match="cut short after it was opened"):
        file.raw("output_norm.weight")


def test_file_replaced_after_opening_stays_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gguf", seeds.smallest_gguf().data)
    file = read_gguf(path)
    before = file.raw("token_embd.weight").tobytes()
    write(tmp_path / "b.gguf", b"other").replace(path)
    assert file.raw("token_embd.weight").tobytes() == before
