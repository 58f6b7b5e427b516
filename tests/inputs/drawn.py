"""Pictures to test with, drawn here: smooth parts, sharp edges and noise, so that every filter shows."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageDraw


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """An RGB picture that looks different in every corner."""
    chance = np.random.default_rng(seed)
    coarse = chance.integers(0, 256, (min(height, 9), min(width, 9), 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for line in range(8):
        y = line * height // 8
        draw.line([(0, y), (width, height - 1 - y)], fill=(0, 0, 0) if line % 2 else (255, 255, 255))
        draw.text((line * width // 9, y), f"line {line}", fill=(255, 0, 0))
    noisy = np.asarray(image).copy()
    noisy[: height // 3] ^= chance.integers(0, 64, (height // 3, width, 3), dtype=np.uint8)
    return Image.fromarray(noisy)


def receipt() -> Image.Image:
    """Small print on narrow paper."""
    lines = [
        f"{number + 1:2}  article {number * 37 % 100:02}     {number * 1.37 + 2:6.2f}" for number in range(40)
    ]
    return written(["THE CORNER SHOP", "", *lines, "", "TOTAL       1,148.60", "Thank you!"], 420, 22)


def banner() -> Image.Image:
    """Large letters, much wider than tall."""
    image = Image.new("RGB", (2400, 420), (20, 40, 120))
    ImageDraw.Draw(image).text((60, 80), "GRAND OPENING SATURDAY 10 AM", fill=(255, 240, 0), font_size=130)
    return image


def tall_list() -> Image.Image:
    """Names below one another, much taller than wide."""
    return written(
        [f"{number:3}. name number {number * 7919 % 1000:03}" for number in range(1, 121)], 500, 25
    )


def written(lines: list[str], width: int, height: int) -> Image.Image:
    """Lines of text on white, each `height` pixels high."""
    image = Image.new("RGB", (width, height * (len(lines) + 2)), (255, 255, 250))
    draw = ImageDraw.Draw(image)
    for number, line in enumerate(lines, 1):
        draw.text((height, height * number), line, fill=(30, 30, 30), font_size=height * 3 // 4)
    return image


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """The bytes of a file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def in_mode(mode: str, size: tuple[int, int] = (37, 23)) -> Image.Image:
    """A picture in one of Pillow's modes."""
    chance = np.random.default_rng(len(mode))
    if mode.startswith("I;16"):
        order = ">u2" if mode.endswith("B") else "<u2"
        grey = chance.integers(0, 1 << 16, (size[1], size[0])).astype(order)
        return Image.frombytes(mode, size, grey.tobytes())
    image = picture(*size)
    if mode in ("RGBA", "LA", "PA"):
        image.putalpha(Image.fromarray(chance.integers(0, 256, (size[1], size[0]), dtype=np.uint8)))
    return image.quantize(40) if mode == "P" else image.convert(mode)


def samples() -> dict[str, bytes]:
    """A small file of every format, in many of its kinds."""
    made = {
        "jpeg": encoded(picture(61, 40), "JPEG", quality=80),
        "jpeg-progressive": encoded(picture(61, 40), "JPEG", progressive=True),
        "jpeg-grey": encoded(in_mode("L"), "JPEG"),
        "jpeg-cmyk": encoded(in_mode("CMYK"), "JPEG"),
        "webp": encoded(picture(50, 50), "WEBP"),
        "webp-lossless": encoded(in_mode("RGBA"), "WEBP", lossless=True),
        "gif": encoded(in_mode("P"), "GIF"),
        "gif-moving": encoded(in_mode("P"), "GIF", save_all=True, append_images=[picture(37, 23, 5)]),
        "bmp": encoded(picture(33, 21), "BMP"),
        "bmp-palette": encoded(in_mode("P"), "BMP"),
        "jpeg-mpo": encoded(picture(40, 30), "MPO", save_all=True, append_images=[picture(40, 30, 3)]),
    }
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        made[f"png-{mode}"] = encoded(in_mode(mode), "PNG")
    for mode in ("L", "RGB", "CMYK", "YCbCr", "I;16", "RGBA"):
        made[f"tiff-{mode}"] = encoded(in_mode(mode), "TIFF")
    for packing in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits"):
        made[f"tiff-{packing}"] = encoded(picture(61, 40), "TIFF", compression=packing)
    return made
