"""Conversations as files: Markdown to read, JSON to keep and to bring back."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from ..errors import ImageError
from ..inputs.dataurl import from_data_url
from .historyfile import HistoryError
from .wire import Body, Strict, at_most

FORMAT = "gemmary-conversations"
MOST_TEXT = 4_000_000  # characters
MOST_PICTURES = 10_000  # of a conversation in a file
KINDS = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"RIFF": "image/webp"}
NO_PICTURE = "this is no PNG, JPEG or WebP picture"

Id = Annotated[str, Field(pattern=r"^[0-9A-Za-z_-]{4,64}$")]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Title = Annotated[str, Field(min_length=1, max_length=200)]
System = Annotated[str, Field(max_length=200_000)]
Values = Annotated[dict[str, str | int | float | bool | None], Field(max_length=64), at_most(64)]
Whole = Mapping[str, Any]


class Text(Strict):
    """Text in a message."""

    type: Literal["text"]
    text: Annotated[str, Field(max_length=MOST_TEXT)]


class Picture(Strict):
    """A picture in a message, kept beside it."""

    type: Literal["picture"]
    id: Hash
    name: Annotated[str, Field(max_length=256)] = ""
    width: Annotated[int, Field(ge=1, le=1 << 20)]
    height: Annotated[int, Field(ge=1, le=1 << 20)]


Content = Annotated[
    list[Annotated[Text | Picture, Field(discriminator="type")]], Field(max_length=256, fail_fast=True)
]


class Said(Body):
    """A message without its place in the tree."""

    parent: Id | None
    role: Literal["user", "assistant"]
    content: Content
    meta: Values = Field(default_factory=dict)


class Message(Said):
    """A message of a file."""

    id: Id
    created: Annotated[float, Field(ge=0, le=1e12)]


class Conversation(Strict):
    """A conversation of a file."""

    title: Title
    system: System
    settings: Values
    leaf: Id | None
    created: Annotated[float, Field(ge=0, le=1e12)]
    messages: Annotated[list[Message], Field(max_length=100_000, fail_fast=True)]
    pictures: Annotated[dict[Hash, str], Field(max_length=MOST_PICTURES), at_most(MOST_PICTURES)]


class File(Body):
    """A file of conversations."""

    format: Literal["gemmary-conversations"]
    version: Literal[1]
    conversations: Annotated[list[Conversation], Field(min_length=1, max_length=1000, fail_fast=True)]


def as_json(whole: Whole, read: Callable[[str], tuple[str, bytes]]) -> dict[str, Any]:
    """A file with one conversation; `read` gives media type and bytes of a picture."""
    names = {part["id"] for one in whole["messages"] for part in one["content"] if part["type"] == "picture"}
    conversation = {
        **{name: whole[name] for name in ("title", "system", "settings", "leaf", "created", "messages")},
        "pictures": {name: _data_url(*read(name)) for name in sorted(names)},
    }
    return {"format": FORMAT, "version": 1, "conversations": [conversation]}


def from_json(conversation: Conversation) -> tuple[dict[str, Any], dict[str, tuple[str, bytes]]]:
    """What `History.take` wants."""
    whole = conversation.model_dump(exclude={"pictures"})
    try:
        data = {name: from_data_url(url) for name, url in conversation.pictures.items()}
    except ImageError as error:
        raise HistoryError(str(error), 400) from None
    return whole, {name: (kind_of(one), one) for name, one in data.items()}


def kind_of(data: bytes) -> str:
    """Media type of a picture by its first bytes. HistoryError for anything else."""
    for head, kind in KINDS.items():
        if data.startswith(head) and (kind != "image/webp" or data[8:12] == b"WEBP"):
            return kind
    raise HistoryError(NO_PICTURE, 400)


def as_markdown(whole: Whole) -> str:
    """The branch that is shown."""
    lines = [f"# {whole['title']}", ""]
    if whole["system"]:
        lines += [*(f"> {line}".rstrip() for line in whole["system"].splitlines()), ""]
    for message in _branch(whole):
        lines += ["## You" if message["role"] == "user" else "## Gemma", ""]
        for part in message["content"]:
            lines += [part["text"] if part["type"] == "text" else f"*[picture: {_plain(part['name'])}]*", ""]
    return "\n".join(lines)


def file_name(title: str, ending: str) -> str:
    """A name for a download, letters and digits of any language."""
    words = re.sub(r"[^\w]+", "-", title).strip("-_")[:60]
    return f"{words or 'chat'}.{ending}"


def _branch(whole: Whole) -> Iterable[Mapping[str, Any]]:
    by_id = {message["id"]: message for message in whole["messages"]}
    path, at = [], whole["leaf"]
    while at is not None:
        path.append(by_id[at])
        at = by_id[at]["parent"]
    return reversed(path)


def _plain(name: str) -> str:
    return re.sub(r"[^\w .-]", "", name) or "unnamed"


def _data_url(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
