"""Whether a picture can be used: it is read as a prompt's pictures are, in a process of its own."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ...inputs.picture import encoded, read_picture


def picture_digest(path: Path) -> str:
    """SHA-256 of the file of a picture that decodes; ImageError for any other."""
    content = encoded(path)
    read_picture(content)
    return hashlib.sha256(content).hexdigest()
