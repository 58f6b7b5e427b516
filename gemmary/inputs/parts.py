"""What a message holds: text and pictures, in the shapes of Hugging Face and OpenAI.

    "text"
    [{"type": "text", "text": "..."},
     {"type": "image", "image": <what read_picture reads>},  # or "path", "url"; or "data", "base64": base64
     {"type": "image_url", "image_url": {"url": "data:image/png;base64,..."}}]

A picture may say "pan_and_scan": True | False | PanAndScan(...) and "tiles": 2; else the call decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..config import VisionConfig
from ..errors import ImageError, PromptError
from .crops import PanAndScan, pan_and_scan_of
from .dataurl import from_base64, is_data_url

NO_EYES = (
    "this model reads text only: leave the pictures out, or load a model that can see: Gemma 3 4B, 12B or "
    "27B (a GGUF file needs the mmproj file that belongs to it)"
)
ONLY_DATA = (
    'image_url takes a data URL such as data:image/png;base64,iVBORw0...; for a file write {"type": "image", '
    '"path": ...}'
)
SOURCES = ("image", "path", "url", "data", "base64")


@dataclass(frozen=True)
class Shown:
    """A picture in a message, not read yet."""

    source: object
    pan_and_scan: PanAndScan | None


Content = tuple[str | Shown, ...]


@dataclass(frozen=True)
class Sight:
    """What becomes of pictures: the sizes that the model wants (None: it cannot see), how they are cut."""

    vision: VisionConfig | None = None
    pan_and_scan: PanAndScan | None = None


def content_of(message: Mapping[str, Any], sight: Sight, trim: bool = True) -> Content:
    """The parts of a message as they are, each text without white space around it if `trim`."""
    content = message.get("content")
    if content is None and message.get("tool_calls"):
        return ()
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(parts, (list, tuple)):
        raise PromptError("the content of a message must be a string or a list of parts")
    found = (_part(part, sight) for part in parts)
    return tuple(part.strip() if trim and isinstance(part, str) else part for part in found)


def pictures_in(content: Content) -> bool:
    """Whether `content` shows a picture."""
    return any(isinstance(part, Shown) for part in content)


def shown(source: object, sight: Sight) -> Shown:
    """`source` as the call wants pictures. ImageError when the model cannot see."""
    if sight.vision is None:
        raise ImageError(NO_EYES)
    return Shown(source, sight.pan_and_scan)


def _part(part: object, sight: Sight) -> str | Shown:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if isinstance(part, Mapping) and kind in ("image", "image_url"):
        return _picture(part, kind, sight)
    text = part.get("text") if isinstance(part, Mapping) and kind == "text" else None
    if not isinstance(text, str):
        raise PromptError('a part of a message must look like {"type": "text", "text": "Hello"}')
    return text


def _picture(part: Mapping[str, Any], kind: str, sight: Sight) -> Shown:
    picture = shown(None, sight)
    cut = picture.pan_and_scan
    if "pan_and_scan" in part or "tiles" in part:
        cut = pan_and_scan_of(part.get("pan_and_scan", cut), part.get("tiles"))
    return Shown(_linked(part) if kind == "image_url" else _given(part), cut)


def _given(part: Mapping[str, Any]) -> object:
    """The source in a part of Hugging Face's shape."""
    given = [name for name in SOURCES if part.get(name) is not None]
    if len(given) != 1:
        raise PromptError(
            f'a picture must look like {{"type": "image", "image": ...}}, or one of {SOURCES[1:]}'
        )
    source = part[given[0]]
    if given[0] in ("data", "base64") and isinstance(source, str) and not is_data_url(source):
        return from_base64(source)
    return source


def _linked(part: Mapping[str, Any]) -> str:
    """The data URL in a part of OpenAI's shape: it comes over the network and may name no file of ours."""
    link = part.get("image_url")
    url = link.get("url") if isinstance(link, Mapping) else link
    if not isinstance(url, str) or not is_data_url(url):
        raise ImageError(ONLY_DATA)
    return url
