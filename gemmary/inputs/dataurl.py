"""Pictures written as text: base64, and data URLs."""

from __future__ import annotations

import base64
import binascii
import re

from ..errors import ImageError

MAX_BYTES = 64 << 20  # of an encoded picture
MAX_TEXT = MAX_BYTES * 3 // 2  # characters of base64, with room for line breaks
DATA_URL = re.compile(r"data:([^,]*),", re.IGNORECASE)

BIG_FILE = f"the file of the picture has more than {MAX_BYTES >> 20} MiB: make the picture smaller"
BASE64 = "the picture is not base64: a data URL looks like data:image/png;base64,iVBORw0..."


def from_base64(text: str) -> bytes:
    """What base64 holds, with line breaks in it or without its padding. ImageError."""
    if len(text) > MAX_TEXT:
        raise ImageError(BIG_FILE)
    plain = "".join(text.split()).rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ImageError(BASE64) from None


def from_data_url(url: str) -> bytes:
    """What a data URL holds. Its media type is not believed. ImageError."""
    found = DATA_URL.match(url[:1024])
    if not found or not found[1].lower().endswith(";base64"):
        raise ImageError(BASE64)
    return from_base64(url[found.end() :])


def is_data_url(text: str) -> bool:
    """Whether `text` is meant as a data URL, well-formed or not."""
    return text[:5].lower() == "data:"
