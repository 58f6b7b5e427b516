"""Files to records, a piece at a time. What cannot be read becomes a fault with a reason, never an exception.

Text files are cut between paragraphs, so that a file of any size is read in pieces of `longest` bytes; JSONL
is read line by line, Parquet batch by batch. A name that ends in .gz is unpacked on the way.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from ...errors import GemmaryError, ImageError
from ..tables import PlanError
from .pictures import picture_digest
from .plan import Source
from .reasons import Reason

TEXT = {".txt", ".text", ".md", ".rst", ""}
JSONL = {".jsonl", ".ndjson"}
MAX_LINE = 16 << 20  # bytes of a record in JSONL
LOOK = 1 << 13  # bytes in which a NUL tells a binary file
BATCH = 64  # records of Parquet at once

Entry = dict[str, Any]


@dataclass(frozen=True)
class Picture:
    """A picture's file and the SHA-256 of its bytes."""

    path: str
    digest: str


@dataclass(frozen=True)
class Record:
    """A text as it was read. last: it ends here, and does not go on in the next record."""

    place: str
    text: str
    last: bool = True
    quality: float = 1.0
    picture: Picture | None = None


@dataclass(frozen=True)
class Fault:
    """What was not read: a file, a line, a piece of a text; `seen` is the beginning of it."""

    place: str
    reason: Reason
    seen: str = ""


def source_files(source: Source, folder: Path) -> list[tuple[str, Path]]:
    """Names of sources (several where `by_file`), and their files, in the order of their names. PlanError."""
    found: list[tuple[str, Path]] = []
    for pattern in source.paths:
        paths = sorted(path for path in folder.glob(pattern) if path.is_file())
        if not paths:
            raise PlanError(
                f"source {source.name!r}: {folder} has no file {pattern}; correct the plan's paths"
            )
        found += [(f"{source.name}/{_stem(path)}" if source.by_file else source.name, path) for path in paths]
    return list(dict.fromkeys(found))


def _stem(path: Path) -> str:
    return path.name.split(".gz")[0].removesuffix(path.with_name(path.name.removesuffix(".gz")).suffix)


def read_file(path: Path, source: Source, longest: int) -> Iterator[Record | Fault]:
    """All records of a file, of at most `longest` bytes each."""
    plain = path.with_suffix("") if path.suffix == ".gz" else path
    try:
        if not path.stat().st_size:
            yield Fault(path.name, Reason.EMPTY)
        elif plain.suffix == ".parquet" and plain == path:
            yield from _parquet(path, source, longest)
        elif plain.suffix in JSONL | TEXT:
            with _opened(path) as file:
                yield from _stream(file, plain.suffix in JSONL, path, source, longest)
        else:
            yield Fault(path.name, Reason.UNKNOWN)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        yield Fault(path.name, Reason.DAMAGED)
    except OSError as error:
        yield Fault(path.name, Reason.UNREADABLE, str(error.strerror or error))


def _opened(path: Path) -> io.BufferedReader:
    if path.suffix == ".gz":
        return io.BufferedReader(cast(io.RawIOBase, gzip.GzipFile(path)))
    return path.open("rb")


def _stream(
    file: io.BufferedReader, lines: bool, path: Path, source: Source, longest: int
) -> Iterator[Record | Fault]:
    head = file.peek(LOOK)
    if b"\0" in head[:LOOK]:
        yield Fault(path.name, Reason.BINARY)
        return
    if head.startswith(b"\xef\xbb\xbf"):
        file.read(3)
    yield from _jsonl(file, path, source, longest) if lines else _pieces(file, path.name, longest)


# Text


def _pieces(file: IO[bytes], place: str, longest: int) -> Iterator[Record | Fault]:
    """Pieces of at most `longest` bytes; one that is not UTF-8 throughout is dropped as a whole."""
    waiting: bytes | None = None
    number = 0
    for piece in filter(bytes.strip, _cut(file, longest)):
        if waiting is not None:
            yield _piece(waiting, f"{place}, piece {number}", last=False)
        waiting, number = piece, number + 1
    if waiting is not None:
        yield _piece(waiting, f"{place}, piece {number}" if number > 1 else place, last=True)
    else:
        yield Fault(place, Reason.EMPTY)


def _piece(content: bytes, place: str, last: bool) -> Record | Fault:
    if b"\0" in content:
        return Fault(place, Reason.BINARY)
    try:
        return Record(place, content.decode(), last)
    except UnicodeDecodeError as error:
        return Fault(place, Reason.NOT_UTF8, _excerpt(content[max(error.start - 40, 0) : error.start + 40]))


def _cut(file: IO[bytes], longest: int) -> Iterator[bytes]:
    """Cut before the line that no longer fits; at an empty line as soon as half of the room is taken."""
    held: list[bytes] = []
    size = 0
    while line := _line(file, longest):
        paragraph = size >= longest // 2 and not line.strip()
        if paragraph or size + len(line) > longest:
            yield b"".join(held)
            held, size = [], 0
        held.append(line)
        size += len(line)
    if held:
        yield b"".join(held)


def _line(file: IO[bytes], longest: int) -> bytes:
    """A line, or `longest` bytes of one that is longer; not cut inside of a character."""
    line = file.readline(longest - 3)
    if len(line) == longest - 3 and line[-1] >= 0x80:
        while len(line) < longest and (following := _peeked(file)) is not None and following & 0xC0 == 0x80:
            line += file.read(1)
    return line


def _peeked(file: IO[bytes]) -> int | None:
    ahead = cast(io.BufferedReader, file).peek(1)[:1]
    return ahead[0] if ahead else None


# JSONL


def _jsonl(file: IO[bytes], path: Path, source: Source, longest: int) -> Iterator[Record | Fault]:
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        place = f"{path.name}:{number}"
        if len(line) > MAX_LINE:
            while line and not line.endswith(b"\n"):
                line = file.readline(MAX_LINE)
            yield Fault(place, Reason.LONG_LINE)
        elif line.strip():
            yield from _from_line(line, place, path, source, longest)


def _from_line(line: bytes, place: str, path: Path, source: Source, longest: int) -> Iterator[Record | Fault]:
    try:
        entry = json.loads(line.decode())
    except UnicodeDecodeError:
        yield Fault(place, Reason.NOT_UTF8, _excerpt(line))
    except (ValueError, RecursionError):
        yield Fault(place, Reason.BROKEN_JSON, _excerpt(line))
    else:
        yield from _from_entry(entry, place, path.parent, source, longest)


def _from_entry(
    entry: object, place: str, folder: Path, source: Source, longest: int
) -> Iterator[Record | Fault]:
    text = _text(entry, source.text)
    if text is None or not isinstance(entry, dict):
        yield Fault(place, Reason.NO_TEXT, str(entry)[:80].encode(errors="replace").decode())
        return
    quality = entry.get(source.quality, 1.0) if source.quality else 1.0
    if isinstance(quality, bool) or not isinstance(quality, int | float) or not 1e-6 <= quality <= 1e6:
        yield Fault(place, Reason.BAD_QUALITY, _excerpt(json.dumps(quality)[:80].encode()))
    elif source.picture is not None:
        yield _with_picture(text, place, folder, entry.get(source.picture), float(quality), longest)
    elif text.strip() and len(text) <= longest:
        yield _weighted(_piece(text, place, last=True), float(quality))
    else:
        for piece in _pieces(_buffered(text), place, longest):
            yield _weighted(piece, float(quality))


def _buffered(content: bytes) -> io.BufferedReader:
    return io.BufferedReader(cast(io.RawIOBase, io.BytesIO(content)))


def _weighted(piece: Record | Fault, quality: float) -> Record | Fault:
    if isinstance(piece, Fault) or quality == 1:
        return piece
    return Record(piece.place, piece.text, piece.last, quality, piece.picture)


def _text(entry: object, names: tuple[str, ...]) -> bytes | None:
    """UTF-8 of the named fields, joined by a newline; None if one is missing or no Unicode text."""
    parts = [entry.get(name) for name in names] if isinstance(entry, dict) else [None]
    if not all(isinstance(part, str) for part in parts):
        return None
    try:
        return "\n".join(cast(list[str], parts)).encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return None


def _with_picture(
    text: bytes, place: str, folder: Path, name: object, quality: float, longest: int
) -> Record | Fault:
    """A picture stands before its whole text: a pair is never cut."""
    if not isinstance(name, str) or not name:
        return Fault(place, Reason.NO_PICTURE)
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        return Fault(place, Reason.BAD_PICTURE, f"{name[:80]} is outside of {folder.name}")
    if len(text) > longest:
        return Fault(place, Reason.LONG_LINE, _excerpt(text))
    try:
        picture = Picture(name, picture_digest(path))
    except ImageError as error:
        return Fault(place, Reason.BAD_PICTURE, f"{name[:80]}: {error}")
    return Record(place, text.decode(), True, quality, picture)


# Parquet


def _parquet(path: Path, source: Source, longest: int) -> Iterator[Record | Fault]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise GemmaryError(
            "to read Parquet, install what training needs: pip install 'gemmary[train]'"
        ) from error
    wanted = [*source.text, *filter(None, (source.quality, source.picture))]
    try:
        with parquet.ParquetFile(path, memory_map=False, pre_buffer=False) as file:
            if missing := [name for name in wanted if name not in file.schema_arrow.names]:
                yield Fault(path.name, Reason.NO_TEXT, f"has no column {missing[0]}")
                return
            number = 0
            for batch in file.iter_batches(BATCH, columns=wanted, use_threads=False):
                for row in range(batch.num_rows):
                    number += 1
                    place = f"{path.name}, row {number}"
                    yield from _from_row(batch, row, place, path, source, longest)
    except (pyarrow.ArrowException, OSError):
        yield Fault(path.name, Reason.DAMAGED)


def _from_row(
    batch: Any, row: int, place: str, path: Path, source: Source, longest: int
) -> Iterator[Record | Fault]:
    try:
        entry = {name: batch.column(name)[row].as_py() for name in batch.schema.names}
    except UnicodeDecodeError:
        yield Fault(place, Reason.NOT_UTF8)
    else:
        yield from _from_entry(entry, place, path.parent, source, longest)


def _excerpt(content: bytes) -> str:
    return content[:80].decode(errors="replace")
