"""Every kind of file, whole, in pieces, and broken in every way that people's files are broken."""

from __future__ import annotations

import gzip
import io
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmary.train.data import sources
from gemmary.train.data.plan import PlanError, Source
from gemmary.train.data.reasons import Reason
from gemmary.train.data.sources import Fault, Record, read_file, source_files
from tests.train.data.toyfiles import write_jsonl

PLAIN = Source("s", ("*",))


def read(path: Path, source: Source = PLAIN, longest: int = 10_000) -> list[Record | Fault]:
    return list(read_file(path, source, longest))


def written(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).write_bytes(content)
    return folder / name


# Text


@given(st.text(), st.integers(64, 90))
def test_pieces_are_the_text(text: str, longest: int) -> None:
    """Whatever the text: pieces never cut a character, lose nothing but space, and know the last."""
    content = text.replace("\0", "").encode()
    found = list(sources._pieces(io.BufferedReader(io.BytesIO(content)), "here", longest))
    if not content.strip():
        assert [type(piece) for piece in found] == [Fault]
        return
    records = [piece for piece in found if isinstance(piece, Record)]
    assert records == found
    assert all(len(record.text.encode()) <= longest for record in records)
    joined = "".join(record.text for record in records)
    assert joined.encode().split() == content.split()
    assert [record.last for record in records] == [False] * (len(records) - 1) + [True]


def test_cut_between_paragraphs(tmp_path: Path) -> None:
    path = written(tmp_path, "a.txt", b"\n\n".join(b"%d " % n * 20 for n in range(9)))
    texts = [record.text.strip() for record in read(path, longest=80) if isinstance(record, Record)]
    assert len(texts) == 9


@pytest.mark.parametrize(
    ("name", "content", "faults"),
    [
        ("empty.txt", b"", [Reason.EMPTY]),
        ("space.txt", b" \n\n ", [Reason.EMPTY]),
        ("program.txt", b"\x7fELF\0\0\0", [Reason.BINARY]),
        ("utf16.txt", "words".encode("utf-16"), [Reason.BINARY]),
        ("latin.txt", "déjà vu".encode("latin-1"), [Reason.NOT_UTF8]),
        ("cut.txt", "é".encode()[:1], [Reason.NOT_UTF8]),
        ("late.txt", b"a" * 20_000 + b"\n\0\n", [Reason.BINARY]),
        ("picture.png", b"\x89PNG", [Reason.UNKNOWN]),
        ("cut.txt.gz", gzip.compress(b"words " * 9999, mtime=0)[:50], [Reason.DAMAGED]),
        ("no.txt.gz", b"words", [Reason.DAMAGED]),
        ("no.parquet", b"PAR1 and nothing else", [Reason.DAMAGED]),
        ("a.jsonl", b'{"text": "good"}\n{"text": \n{"text": "good"}', [Reason.BROKEN_JSON]),
        ("deep.jsonl", b"[" * 100_000, [Reason.BROKEN_JSON]),
        ("list.jsonl", b'["text"]\nnull\n3\n{"txt": ""}\n{"text": 3}', [Reason.NO_TEXT] * 5),
        ("latin.jsonl", '{"text": "déjà"}'.encode("latin-1"), [Reason.NOT_UTF8]),
        ("half.jsonl", b'{"text": "\\ud800"}', [Reason.NO_TEXT]),
        ("nul.jsonl", b'{"text": "a\\u0000b"}', [Reason.BINARY]),
        ("nothing.jsonl", b'{"text": ""}', [Reason.EMPTY]),
    ],
)
def test_what_is_wrong_is_counted(tmp_path: Path, name: str, content: bytes, faults: list[Reason]) -> None:
    found = read(written(tmp_path, name, content))
    assert [fault.reason for fault in found if isinstance(fault, Fault)] == faults
    assert all(name in fault.place for fault in found if isinstance(fault, Fault))


def test_only_the_pieces_of_another_encoding_are_lost(tmp_path: Path) -> None:
    good, bad = ("é " * 20 + "\n\n").encode(), ("é " * 20 + "\n\n").encode("latin-1")
    found = read(written(tmp_path, "mixed.txt", good + bad + good), longest=64)
    assert [type(piece) for piece in found] == [Record, Fault, Record]


def test_a_mark_at_the_beginning_is_no_text(tmp_path: Path) -> None:
    for name, content in (("a.txt", b"words"), ("a.jsonl", b'{"text": "words"}')):
        found = read(written(tmp_path, name, b"\xef\xbb\xbf" + content))
        assert [getattr(record, "text", None) for record in found] == ["words"]


def test_a_line_without_end_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MAX_LINE", 1000)
    good = b'{"text": "good"}\n'
    found = read(written(tmp_path, "a.jsonl", good + b'{"text": "' + b"x" * 5000 + b'"}\n' + good))
    assert [getattr(entry, "reason", None) for entry in found] == [None, Reason.LONG_LINE, None]


def test_fields_quality_and_compression(tmp_path: Path) -> None:
    source = Source("s", ("*",), text=("q", "a"), quality="score")
    values: list[object] = [2, 0.5, 0, -1, True, "1", float("nan"), 1e400, 10**400, 1e-320]
    lines = [json.dumps({"q": "Who?", "a": "Me.", "score": value}) for value in values]
    path = written(tmp_path, "a.jsonl.gz", gzip.compress("\n".join(lines).encode()))
    found = read(path, source)
    assert [getattr(e, "quality", None) or e.reason for e in found] == [2.0, 0.5] + [Reason.BAD_QUALITY] * 8  # type: ignore[union-attr]
    assert found[0].text == "Who?\nMe."  # type: ignore[union-attr]


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="needs the extra `train`")
    from pyarrow import parquet

    texts = [f"text {n}" for n in range(200)] + [None]
    parquet.write_table(pyarrow.table({"text": texts, "n": range(201)}), tmp_path / "a.parquet")
    found = read(tmp_path / "a.parquet")
    assert [record.text for record in found if isinstance(record, Record)] == texts[:-1]
    assert found[-1] == Fault("a.parquet, row 201", Reason.NO_TEXT, "{'text': None}")
    assert [f.reason for f in read(tmp_path / "a.parquet", Source("s", ("*",), text=("body",)))] == [
        Reason.NO_TEXT
    ]  # type: ignore[union-attr]


# Pictures


def test_pictures(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="needs Pillow")
    (tmp_path / "inside").mkdir()
    image.new("RGB", (4, 4), "red").save(tmp_path / "inside" / "red.png")
    image.new("RGB", (4, 4), "red").save(tmp_path / "outside.png")
    whole = (tmp_path / "inside" / "red.png").read_bytes()
    (tmp_path / "inside" / "cut.png").write_bytes(whole[:-20])
    (tmp_path / "inside" / "text.png").write_text("no picture")
    names: list[object] = ["red.png", "cut.png", "text.png", "none.png", "../outside.png", None, 3, ""]
    write_jsonl(tmp_path / "inside" / "a.jsonl", [{"text": "Red.", "image": name} for name in names])
    found = read(tmp_path / "inside" / "a.jsonl", Source("s", ("*",), picture="image"))
    assert found[0].picture.path == "red.png"  # type: ignore[union-attr]
    bad, none = Reason.BAD_PICTURE, Reason.NO_PICTURE
    assert [fault.reason for fault in found[1:]] == [bad] * 4 + [none] * 3  # type: ignore[union-attr]


# Files and memory


def test_names_and_order(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", "c.jsonl.gz"):
        written(tmp_path, name, b"x")
    paths = ("*.txt", "*.gz", "a.*")
    assert [n for n, _ in source_files(Source("s", paths), tmp_path)] == ["s", "s", "s"]
    each = source_files(Source("s", paths, by_file=True), tmp_path)
    assert each == [(f"s/{n[0]}", tmp_path / n) for n in ("a.txt", "b.txt", "c.jsonl.gz")]
    with pytest.raises(PlanError, match=r"no file \*.md"):
        source_files(Source("s", ("*.md",)), tmp_path)


def peak(path: Path) -> tuple[int, int]:
    """Bytes of memory that reading takes at most, and how many records there are."""
    tracemalloc.start()
    try:
        count = sum(1 for _ in read_file(path, PLAIN, 4096))
        return tracemalloc.get_traced_memory()[1], count
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "line", [b"words and words\n", b"no end of the line ", b'{"text": "%s"}\n' % (b"words " * 300)]
)
def test_memory_does_not_grow_with_the_file(tmp_path: Path, line: bytes) -> None:
    name = "a.jsonl" if line.startswith(b"{") else "a.txt"
    size = 3 << 20
    found, count = peak(written(tmp_path, name, line * (size // len(line))))
    assert count > 500
    assert found < 1 << 20


def faults(found: Iterator[Record | Fault]) -> list[Reason]:
    return [entry.reason for entry in found if isinstance(entry, Fault)]


def test_a_folder_without_rights_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, "a.txt", b"words")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(sources, "_opened", refuse)
    assert faults(read_file(path, PLAIN, 100)) == [Reason.UNREADABLE]
