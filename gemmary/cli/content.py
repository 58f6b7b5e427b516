"""What a message of the dialogue says: text, or text and pictures in order."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ..errors import PromptError
from .attachment import Attachment, Part, reattach

Piece = str | Attachment
Content = str | list[Piece]


def arranged(pieces: Sequence[Piece]) -> Content:
    """Pictures in front of the text, as Gemma was trained; where they stand when text is around them."""
    trimmed = [piece.strip() if isinstance(piece, str) else piece for piece in pieces]
    texts = [piece for piece in trimmed if isinstance(piece, str)]
    pictures = [piece for piece in trimmed if isinstance(piece, Attachment)]
    if not pictures:
        return "\n".join(texts)
    return [*pictures, *texts] if len(texts) < 2 else trimmed


def pictures_in(content: Content) -> list[Attachment]:
    """The pictures, in order."""
    return [] if isinstance(content, str) else [piece for piece in content if isinstance(piece, Attachment)]


def given(content: Content) -> str | list[Part]:
    """As Model.chat takes it."""
    return _written(content, lambda picture: picture.given)


def kept(content: Content) -> str | list[Part]:
    """As a file keeps it."""
    return _written(content, lambda picture: picture.kept)


def read(value: object) -> Content:
    """What a file keeps; PromptError when it is no content, ImageError when a picture cannot be read."""
    if isinstance(value, str):
        return _text(value)
    if not isinstance(value, list) or not value:
        raise PromptError("content must be text, or a list of parts")
    return [_piece(part) for part in value]


def editable(content: Content) -> str:
    """One text to change, in which a picture is its name in brackets."""
    if isinstance(content, str):
        return content
    return " ".join(piece if isinstance(piece, str) else _mark(piece) for piece in content)


def edited(text: str, pictures: Iterable[Attachment]) -> list[Piece]:
    """The reverse: names in brackets become the pictures again; one whose name was deleted is gone."""
    waiting = list(pictures)
    if not waiting:
        return [text]
    found: list[Piece] = []
    for piece in re.split("(" + "|".join(re.escape(_mark(picture)) for picture in waiting) + ")", text):
        picture = next((picture for picture in waiting if _mark(picture) == piece), None)
        if picture is not None:
            waiting.remove(picture)
        found.append(picture or piece)
    return [piece for piece in found if isinstance(piece, Attachment) or piece.strip()]


def _mark(picture: Attachment) -> str:
    return f"[{picture.name}]"


def _written(content: Content, write: Callable[[Attachment], Part]) -> str | list[Part]:
    if isinstance(content, str):
        return content
    return [
        write(piece) if isinstance(piece, Attachment) else {"type": "text", "text": piece}
        for piece in content
    ]


def _piece(part: object) -> Piece:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if not isinstance(part, Mapping) or kind not in ("text", "image", "image_url"):
        raise PromptError("a part must be a text, an image or an image_url")
    if kind == "text":
        return _text(part.get("text"))
    return reattach(_text(part.get("path") if kind == "image" else _url(part.get("image_url"))))


def _url(link: Any) -> object:
    """The data URL of OpenAI's shape; a path has no place there."""
    url = link.get("url") if isinstance(link, Mapping) else link
    return url if isinstance(url, str) and url[:5].lower() == "data:" else None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise PromptError("text must be a string")
    try:
        value.encode()  # JSON can smuggle in half a character
    except UnicodeEncodeError:
        raise PromptError("text must be whole characters") from None
    return value
