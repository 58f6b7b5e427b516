"""A picture that goes into a message: what the model gets, what a saved conversation keeps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ImageError
from .terminal import printable

Part = dict[str, Any]


@dataclass(frozen=True)
class Attachment:
    """name: for people. source: the absolute path, or a data URL. data: the encoded picture.

    The bytes are kept: a screenshot that was dragged here is often deleted a moment later.
    """

    name: str
    source: str
    data: bytes

    @property
    def given(self) -> Part:
        """The part of a message that Model.chat takes."""
        return {"type": "image", "image": self.data}

    @property
    def kept(self) -> Part:
        """The part of a message in a file."""
        if self.source.startswith("data:"):
            return {"type": "image_url", "image_url": {"url": self.source}}
        return {"type": "image", "path": self.source}


def attach(path: Path) -> Attachment:
    """The picture in a file. ImageError begins with its name."""
    name = one_line(path.name) or "picture"
    return _read(name, str(path.absolute()), path, name)


def reattach(source: str) -> Attachment:
    """The picture of a saved conversation, a path or a data URL. ImageError begins with the path."""
    from ..inputs.dataurl import is_data_url

    if is_data_url(source):
        return _read("picture", "data:" + source[5:], source, "a picture")
    return _read(one_line(Path(source).name) or "picture", source, source, one_line(source))


def one_line(text: str) -> str:
    """`text` without line breaks and control characters: names of files may hold anything."""
    return " ".join(printable(text).split())


def _read(name: str, source: str, readable: str | Path, called: str) -> Attachment:
    from ..inputs.picture import encoded, read_picture

    try:
        data = encoded(readable)
        read_picture(data)
    except ImageError as fault:
        raise ImageError(f"{called}: {fault}") from None
    return Attachment(name, source, data)
