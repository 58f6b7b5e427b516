"""Pictures made to do harm: decoded, or refused with a fixed sentence; the caller does not grow."""

from __future__ import annotations

import gzip
import io
import random
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gemmary.errors import ImageError
from gemmary.inputs import decoderprocess, picture, signatures
from gemmary.inputs.picture import read_picture

from . import drawn
from .mutants import damaged

SENTENCES = {
    *decoderprocess.SENTENCES.values(), decoderprocess.SLOW, decoderprocess.STOPPED, picture.EMPTY,
    signatures.UNKNOWN, *(advice for _, advice in signatures.OTHERS),
}  # fmt: skip
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
SAMPLES = drawn.samples()


def seeds(kind: str) -> list[bytes]:
    return [data for name, data in SAMPLES.items() if name.startswith(kind.lower())]


def outcome(data: bytes) -> np.ndarray | None:
    """The picture, None for a fixed sentence; anything else is a failure."""
    try:
        return read_picture(data)
    except ImageError as error:
        assert str(error) in SENTENCES and error.__suppress_context__ | (error.__context__ is None)
        return None


def held() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def fuzz(kind: str, first: int, count: int) -> tuple[int, int, int]:
    """How many of `count` damaged files were decoded, refused, and cost a worker."""
    files, fine, workers = seeds(kind), 0, 0
    outcome(files[0])
    before, worker = held(), decoderprocess.DECODER._process
    for number in range(first, first + count):
        chance = random.Random(f"{kind} {number}")
        seed = chance.choice(files)
        keep = chance.choice((0, 12, 30, len(seed) // 3))
        start = time.monotonic()
        fine += outcome(seed[:keep] + damaged(seed[keep:], chance)) is not None
        assert time.monotonic() - start < 60, number
        workers += decoderprocess.DECODER._process is not worker
        worker = decoderprocess.DECODER._process
    assert held() - before < 64 << 20
    return fine, count - fine, workers


@pytest.mark.parametrize("kind", FORMATS)
def test_damaged_files(kind: str) -> None:
    fine, refused, workers = fuzz(kind, 0, 300)
    assert fine > 15 and refused > 50, "the damage is too mild or too hard to tell much"
    assert workers <= 6, "workers die of damaged files"


@pytest.mark.long
@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("first", (1_000, 6_000))
def test_more_damaged_files(kind: str, first: int) -> None:
    fuzz(kind, first, 5_000)


@pytest.mark.parametrize("kind", FORMATS)
def test_cut_at_every_byte(kind: str) -> None:
    """Refused, or whole: some formats end with bytes that hold no pixels. Never half a picture."""
    small = drawn.picture(6, 5)
    data = drawn.encoded(small.quantize(4) if kind == "GIF" else small, kind)
    whole = read_picture(data)
    found = [outcome(data[:length]) for length in range(len(data))]
    assert all((one == whole).all() for one in found if one is not None)
    assert found[: len(data) // 2] == [None] * (len(data) // 2)


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, *extra: bytes, pixels: bytes = b"") -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(extra) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def tiff(*tags: tuple[int, int, int, int], data: bytes = b"") -> bytes:
    """A little-endian TIFF file: tags are (number, type, count, value), `data` starts at byte 8."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    return (
        b"II*\0"
        + struct.pack("<I", 8 + len(data))
        + data
        + struct.pack("<H", len(tags))
        + entries
        + b"\0" * 4
    )


def grey_tiff(width: int, height: int, size: int, data: bytes, packing: int = 1) -> bytes:
    return tiff(
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, packing), (262, 3, 1, 1),
        (273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, size), data=data,
    )  # fmt: skip


def bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 99, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


GIF_OF_ALL = b",\0\0\0\0\xff\xff\xff\xff\0\x08\x02\x4c\x01\0;"  # a frame of 65535 x 65535
JPEG_OF_ALL = (
    b"\xff\xd8\xff\xc0\0\x11\x08\xff\xff\xff\xff\3\1\x11\0\2\x11\0\3\x11\0"
    b"\xff\xda\0\x0c\3\1\0\2\0\3\0\0\x3f\0"
)
NOTHING = zlib.compress(bytes(1 << 20), 9)
BOMB = zlib.compress(bytes(200 << 20), 9)  # 200 MiB in 200 KiB
TEXT = chunk(b"zTXt", b"a\0\0" + NOTHING)
BOMBS = {
    "png of 400 million pixels in 68 bytes": png(20_000, 20_000),
    "png of 2^62 pixels": png((1 << 31) - 1, (1 << 31) - 1, pixels=NOTHING),
    "png without width": png(0, 5, pixels=NOTHING),
    "png with a text bomb": png(1, 1, chunk(b"zTXt", b"a\0\0" + BOMB), pixels=zlib.compress(bytes(4))),
    "png with many texts": png(1, 1, *[TEXT] * 300, pixels=zlib.compress(bytes(4))),
    "png with a profile bomb": png(1, 1, chunk(b"iCCP", b"a\0\0" + BOMB), pixels=zlib.compress(bytes(4))),
    "png with a pixel bomb": png(1, 1, pixels=BOMB),
    "png of 67 million pixels, none there": png(8192, 8192, pixels=NOTHING),
    "gif of 4 billion pixels": b"GIF89a\xff\xff\xff\xff\0\0\0" + GIF_OF_ALL,
    "gif with a frame larger than itself": b"GIF89a\1\0\1\0\0\0\0" + GIF_OF_ALL,
    "bmp of 4 billion pixels": bmp(65535, 65535),
    "bmp of negative width": bmp(-5, 5),
    "tiff of 2^60 pixels": grey_tiff(1 << 30, 1 << 30, 9, b"x" * 9),
    "tiff whose strip is not there": grey_tiff(8000, 8000, 1 << 31, b"x" * 9),
    "tiff with a deflate bomb": grey_tiff(1, 1, len(BOMB), BOMB, packing=8),
    "tiff with a list of 4 billion": tiff(
        (256, 4, 1, 5), (257, 4, 1, 5), (273, 4, (1 << 32) - 1, 8), (279, 4, 1, 25)
    ),
    "tiff that points at itself": b"II*\0\x08\0\0\0" + struct.pack("<HHHIII", 1, 34665, 4, 1, 8, 8),
    "jpeg of 4 billion pixels": JPEG_OF_ALL,
    "webp of 268 million pixels": b"RIFF\x1e\0\0\0WEBPVP8L\x11\0\0\0/\xff\xff\xff\x0f" + bytes(13),
    "zeros": bytes(1000),
    "a jpeg that is also a page": b"\xff\xd8\xff\xe0\0\x10JFIF<html><script>",
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_bombs(name: str) -> None:
    outcome(drawn.encoded(drawn.picture(3, 3)))
    before = held()
    found = outcome(BOMBS[name])
    assert found is None or found.shape == (1, 1, 3)
    assert held() - before < 16 << 20


def test_much_in_a_small_file_is_given_back() -> None:
    """64 million pixels in 200 kilobytes are allowed; they are gone when nobody holds them."""
    data = drawn.encoded(Image.new("L", (8000, 8000)), "PNG")
    assert len(data) < 300_000
    before = held()
    for _ in range(3):
        assert read_picture(data).shape == (8000, 8000, 3)
    assert held() - before < 64 << 20


def test_ten_thousand_frames() -> None:
    """Only the first is decoded."""
    frame, control = b",\0\0\0\0\1\0\1\0\0\2\2D\1\0", b"!\xf9\4\0\0\0\0\0"
    data = b"GIF89a\1\0\1\0\x80\0\0\xff\0\0\0\0\xff" + (control + frame) * 10_000 + b";"
    start = time.monotonic()
    assert read_picture(data).tolist() == [[[255, 0, 0]]]
    assert time.monotonic() - start < 60


@pytest.mark.long  # until the worker's ten seconds are over
def test_a_jpeg_that_is_decoded_over_and_over() -> None:
    """Thousands of scans in a small file, each over all the pixels."""
    data = drawn.encoded(Image.new("L", (4000, 4000)), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    bomb = data[:last] + data[last:-2] * 20_000 + data[-2:]
    start = time.monotonic()
    with pytest.raises(ImageError, match="too long"):
        read_picture(bomb)
    assert time.monotonic() - start < 100


SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><image href="file:///etc/passwd"/></svg>'


OTHERS: dict[str, list[bytes]] = {
    "SVG": [SVG, b"\xef\xbb\xbf\n <?xml version='1.0'?>\n<!-- x -->" + SVG, b"<!DOCTYPE svg>" + SVG],
    "HEIC": [b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", b"\0\0\0\x18ftypmif1\0\0\0\0"],
    "AVIF": [b"\0\0\0\x1cftypavif\0\0\0\0"],
    "video": [b"\0\0\0\x18ftypmp42\0\0\0\0", b"\x1aE\xdf\xa3\x9f", b"RIFF\0\0\0\0AVI LIST"],
    "PDF": [b"%PDF-1.7\n"],
    "PostScript": [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"],
    "JPEG XL": [b"\xff\x0a\xfa\x7f", b"\0\0\0\x0cJXL \r\n\x87\n"],
    "JPEG 2000": [b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"],
    "Photoshop": [b"8BPS\0\1"],
    "icon": [b"\0\0\1\0\1\0"],
    "archive": [gzip.compress(SVG, mtime=0), b"PK\3\4\x14\0"],
    "web page": [b"<!DOCTYPE html><html>", b"\n<html>"],
    "use a JPEG": [
        b"hello", b"\x89PNG", b"RIFF\0\0\0\0WAVE", b"P6\n1 1\n255\nabc", b"SIMPLE  =                    T",
        bytes(4096),
    ],
}  # fmt: skip


@pytest.mark.parametrize("advice", OTHERS)
def test_other_files_named_png(advice: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    for data in OTHERS[advice]:
        path.write_bytes(data)
        for source in (path, data):
            with pytest.raises(ImageError, match=advice) as caught:
                read_picture(source)
            assert str(caught.value) in SENTENCES


@pytest.mark.filterwarnings("ignore")  # Pillow's, while the files are made
def test_formats_of_pillow_that_are_not_ours() -> None:
    """Pillow reads forty; what it would make of these is never tried."""
    for kind in ("PPM", "TGA", "PCX", "SGI", "ICO", "JPEG2000", "AVIF", "DDS", "IM"):
        file = io.BytesIO()
        try:
            drawn.picture(20, 20).save(file, kind)
        except (OSError, KeyError):  # this Pillow was built without it
            continue
        assert outcome(file.getvalue()) is None


def test_sentences_tell_what_to_do() -> None:
    for sentence in SENTENCES:
        assert ": " in sentence and "\n" not in sentence and "/" not in sentence and sentence[0].islower()
