"""Whether a picture can be used: its file is small enough, is one of the known kinds, and decodes."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

from ...errors import ImageError

MAX_BYTES = 64 << 20
MAX_PIXELS = 1 << 26
KINDS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")


def picture_digest(path: Path) -> str:
    """SHA-256 of the file of a picture that decodes; ImageError for any other."""
    from PIL import Image

    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ImageError(f"the picture has more than {MAX_BYTES >> 20} MiB")
        with Image.open(io.BytesIO(content), formats=KINDS) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise ImageError(f"the picture has more than {MAX_PIXELS:,} pixels")
            picture.convert("RGB")
    except ImageError:
        raise
    except Exception as error:  # decoders of broken files raise whatever comes to them
        raise ImageError("the picture does not decode") from error
    return hashlib.sha256(content).hexdigest()
