"""Whatever holds a picture gives the same pixels: those that Pillow has, upright and on white."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from gemmary.errors import ImageError
from gemmary.inputs.dataurl import MAX_BYTES
from gemmary.inputs.decoder import MAX_PIXELS, MAX_SIDE
from gemmary.inputs.picture import read_picture

from .drawn import encoded, in_mode, picture, samples

SAMPLES = samples()


def as_pillow_has_it(data: bytes) -> Any:
    """What the reference makes of a file: in this process, without our code."""
    return np.asarray(on_white(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))))


def on_white(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)).convert("RGB")
    if "A" in image.getbands() or "transparency" in image.info:
        full = np.asarray(image.convert("RGBA")).astype(np.float64)
        alpha = full[..., 3:] / 255
        return Image.fromarray(np.round(alpha * full[..., :3] + (1 - alpha) * 255).astype(np.uint8))
    return image.convert("RGB")


@pytest.mark.parametrize("name", SAMPLES)
def test_every_format(name: str, tmp_path: Path) -> None:
    data, wanted = SAMPLES[name], as_pillow_has_it(SAMPLES[name])
    found = read_picture(data)
    assert found.dtype == np.uint8 and found.shape == wanted.shape and found.flags.c_contiguous
    assert (found == wanted).all()
    path = tmp_path / "no.extension"
    path.write_bytes(data)
    url = f"data:image/{name};base64,{base64.b64encode(data).decode()}"
    same = (bytearray(data), memoryview(data), url, url.replace("data", "DATA"), lambda: data)
    for source in (path, str(path), *same):
        assert (read_picture(source) == wanted).all()
    assert (read_picture(Image.open(io.BytesIO(data))) == wanted).all()


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I;16", "I;16B"]
)
def test_every_mode_of_pil(mode: str) -> None:
    image = in_mode(mode)
    before = image.tobytes()
    assert (read_picture(image) == np.asarray(on_white(image))).all()
    assert image.tobytes() == before and image.mode == mode


def test_sixteen_bits_keep_their_shades() -> None:
    """Pillow's own conversion to RGB makes everything above 255 white."""
    ramp = np.arange(0, 1 << 16, 16, dtype=np.uint16).reshape(64, 64)
    found = read_picture(encoded(Image.fromarray(ramp), "PNG"))
    assert (found == (ramp >> 8).astype(np.uint8)[..., None]).all()


@pytest.mark.parametrize("mode", ["F", "I"])
def test_numbers_without_a_range_are_refused(mode: str) -> None:
    for source in (in_mode(mode), encoded(in_mode(mode), "TIFF")):
        with pytest.raises(ImageError, match="8-bit RGB"):
            read_picture(source)


def test_transparent_is_white() -> None:
    """Black letters on nothing must not become black on black."""
    logo = Image.new("RGBA", (8, 4), (0, 0, 0, 0))
    logo.putpixel((3, 2), (0, 0, 0, 255))
    palette = Image.new("P", (8, 4), 1)
    palette.putpalette([0, 0, 0, 9, 9, 9])
    palette.putpixel((3, 2), 0)
    wanted = np.full((4, 8, 3), 255, np.uint8)
    wanted[2, 3] = 0
    for source in (logo, encoded(logo), np.asarray(logo), encoded(palette, "PNG", transparency=1),
                   encoded(palette, "GIF", transparency=1)):  # fmt: skip
        assert (read_picture(source) == wanted).all()


@pytest.mark.parametrize("turn", range(10))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation(kind: str, turn: int) -> None:
    """Numbers 1 to 8 are orientations; others are no reason to refuse a picture."""
    exif = Image.Exif()
    exif[0x0112] = turn
    data = encoded(picture(30, 20), kind, exif=exif)
    found = read_picture(data)
    assert (found == as_pillow_has_it(data)).all()
    assert found.shape == ((30, 20, 3) if 5 <= turn <= 8 else (20, 30, 3))
    image = Image.open(io.BytesIO(data))
    assert (read_picture(image) == found).all()


def test_broken_exif_is_no_reason_to_refuse() -> None:
    for exif in (
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0nonsense",
        b"Exif\0\0",
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff",
    ):
        data = encoded(picture(30, 20), "JPEG", exif=exif)
        assert read_picture(data).shape == (20, 30, 3)


def test_first_frame() -> None:
    frames = [picture(20, 10, seed) for seed in range(3)]
    for kind in ("PNG", "WEBP", "TIFF"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert (read_picture(data) == np.asarray(frames[0])).all()


def test_arrays() -> None:
    colours = np.asarray(picture(7, 5))
    grey = colours[..., 0]
    for source, wanted in (
        (colours, colours), (colours[::-1], colours[::-1]), (np.asfortranarray(colours), colours),
        (grey, grey[..., None]), (grey[..., None], grey[..., None]),
        (colours / 255, colours), ((colours / 255).astype(np.float32), colours),
        ((grey / 255).astype(np.float16), grey[..., None]),
        (np.zeros((2, 2)), np.zeros((2, 2, 1))),
    ):  # fmt: skip
        found = read_picture(source)
        assert found.dtype == np.uint8 and (found == wanted).all() and found.shape[2] == 3
    found = read_picture(colours)
    found[:] = 0
    assert colours.any(), "the user's array is not ours to change"


SMALL = np.zeros((4, 4), np.uint8)
FAULTS: dict[str, list[object]] = {
    "must be a path": [None, 5, [1], {"url": "x"}],
    "is empty": [b"", "data:image/png;base64,", np.zeros((0, 5, 3), np.uint8), Image.new("RGB", (0, 5))],
    "no such file": ["", "nowhere.png", Path("nowhere.png"), "nul\0.png", "x" * 9999, "file:///etc/passwd"],
    "folder or a device": ["/", Path("/"), "/dev/zero"],
    "not fetched": ["http://a.com/b.png", "HTTPS://a.com/b.png", " http://a", "ftp://a.com/b.png"],
    "not base64": [
        "data:", "data:image/png;base64,%%%", "data:image/png,plain", "data:image/png;base64",
        "data:image/png;base64,é", "data:;base64,a",
    ],
    "use a JPEG": ["data:image/png;base64,QUJDRA", b"\x89PNG"],
    "0 to 255": [
        SMALL.astype(np.uint16), SMALL.astype(bool), SMALL.astype(object), SMALL.astype(complex), SMALL + 1.5,
        SMALL - 0.1, SMALL + np.nan,
    ],
    "must have the shape": [
        np.zeros((3, 4, 5), np.uint8), np.zeros((4, 4, 2), np.uint8), np.zeros(4, np.uint8),
        SMALL[None, ..., None],
    ],
    "too large": [
        np.broadcast_to(np.uint8(0), (9000, 9000, 3)), np.zeros((1, MAX_SIDE + 1), np.uint8),
        Image.new("1", (MAX_SIDE + 1, 1)), encoded(Image.new("1", (1, MAX_SIDE + 1))),
    ],
    "64 MiB": [bytes(MAX_BYTES + 1), "data:;base64," + "A" * 2 * MAX_BYTES],
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(fault: str) -> None:
    """Fixed sentences; what Pillow said is not even in the traceback."""
    for source in FAULTS[fault]:
        with pytest.raises(ImageError, match=fault) as caught:
            read_picture(source)
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "/secret/path")

    path = tmp_path / "a.png"
    path.write_bytes(encoded(picture(3, 3)))
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ImageError, match="who may read it") as caught:
        read_picture(path)
    assert "secret" not in str(caught.value)


def test_a_cut_pil_image_is_a_typed_error() -> None:
    data = encoded(picture(200, 200), "JPEG")
    with pytest.raises(ImageError, match="cut short"):
        read_picture(Image.open(io.BytesIO(data[: len(data) // 2])))


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (MAX_SIDE, 1), (2, MAX_SIDE)])
def test_slivers(size: tuple[int, int]) -> None:
    image = picture(*size)
    assert (read_picture(encoded(image, "PNG")) == np.asarray(image)).all()


@pytest.mark.long  # five seconds
def test_many_pixels() -> None:
    """As many as are allowed, with alpha, which takes the most memory; and a row more."""
    side = int(MAX_PIXELS**0.5)
    most = Image.new("RGBA", (side, MAX_PIXELS // side), (10, 20, 30, 255))
    found = read_picture(encoded(most, "PNG", compress_level=1))
    assert found.shape == (MAX_PIXELS // side, side, 3) and (found == (10, 20, 30)).all()
    del found
    more = Image.new("1", (side, MAX_PIXELS // side + 1))
    with pytest.raises(ImageError, match="too large"):
        read_picture(encoded(more, "PNG"))


def test_base64_with_line_breaks_and_without_padding() -> None:
    data = encoded(picture(9, 9))
    lines = base64.encodebytes(data).decode()
    wanted = read_picture(data)
    for text in (lines, lines.rstrip().rstrip("="), lines.replace("\n", "\r\n")):
        assert (read_picture(f"data:image/png;base64,{text}") == wanted).all()
