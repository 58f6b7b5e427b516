"""What a file is, told from its first bytes, whatever its name says."""

from __future__ import annotations

import re

from ..errors import ImageError

HEAD = 4096  # bytes that are looked at

PICTURES = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|RIFF....WEBP|GIF8[79]a|BM|II[*+]\0|MM\0[*+]", re.DOTALL
)
HEIC = rb"(?:hei[cxms]|hev[cxms]|mif1|msf1)"
OTHERS = tuple(
    (re.compile(pattern, re.DOTALL | re.IGNORECASE), advice)
    for pattern, advice in (
        (rb"....ftyp" + HEIC, "this is a HEIC photo, as iPhones take them: export it as JPEG"),
        (rb"....ftypavi[fs]", "this is an AVIF picture: export it as PNG or JPEG"),
        (rb"....ftyp|\x1aE\xdf\xa3|RIFF....AVI ", "this is a video: save one frame of it as PNG or JPEG"),
        (rb"%PDF-", "this is a PDF document: export its pages as PNG"),
        (rb"%!PS", "this is a PostScript document: export its pages as PNG"),
        (rb"\xff\x0a|\0\0\0\x0cJXL ", "this is a JPEG XL picture: export it as PNG or JPEG"),
        (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "this is a JPEG 2000 picture: export it as PNG or JPEG"),
        (rb"8BPS", "this is a Photoshop file: export it as PNG or JPEG"),
        (rb"\0\0[\x01\x02]\0", "this is an icon file: export it as PNG"),
        (rb"\x1f\x8b|PK\x03\x04", "this is a compressed archive: unpack it and give a picture from it"),
        (
            rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml|<!--|<!doctype svg|<svg).*?(?:<svg\b|\Z)",
            "this is an SVG or XML file, not a picture made of pixels: export it as PNG",
        ),
        (rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype )?html", "this is a web page, not a picture: save the picture"),
    )
)
UNKNOWN = "this is not a picture that can be read: use a JPEG, PNG, WebP, GIF, BMP or TIFF file"


def check_signature(data: bytes) -> None:
    """ImageError unless `data` begins like a picture in one of the formats that are read."""
    head = bytes(data[:HEAD])
    if PICTURES.match(head):
        return
    for pattern, advice in OTHERS:
        if pattern.match(head):
            raise ImageError(advice)
    raise ImageError(UNKNOWN)
