"""A conversation: what was said, and the ways to take it back, shorten it, keep it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import ImageError, PromptError
from .attachment import Attachment
from .content import Content, given, kept, pictures_in, read

FILE_BYTES = 64 << 20
ROLES = ("system", "user", "assistant")
NO_CONVERSATION = 'is not a conversation, a list such as [{"role": "user", "content": "Hello"}]'

Message = dict[str, Any]


class Dialogue:
    """Turns of user and assistant, and a system prompt in front. The last question may have no answer yet."""

    def __init__(self, system: str | None = None) -> None:
        self.system = system
        self.turns: list[Message] = []

    @property
    def messages(self) -> list[Message]:
        """As Model.chat takes them."""
        return self._written(given)

    @property
    def question(self) -> Content | None:
        """What the user said last."""
        said: list[Content] = [turn["content"] for turn in self.turns if turn["role"] == "user"]
        return said[-1] if said else None

    @property
    def unanswered(self) -> Content | None:
        """The last question, if nothing was said to it."""
        return self.question if self.turns and self.turns[-1]["role"] == "user" else None

    @property
    def pictures(self) -> list[Attachment]:
        """All that was shown."""
        return [picture for turn in self.turns for picture in pictures_in(turn["content"])]

    def ask(self, content: Content) -> None:
        """The user's next message. A question that never got an answer makes way."""
        if self.unanswered is not None:
            self.turns.pop()
        self.turns.append({"role": "user", "content": content})

    def answer(self, text: str) -> None:
        """What the model says, or goes on saying."""
        if not text:
            return
        if self.turns and self.turns[-1]["role"] == "assistant":
            self.turns[-1]["content"] += text
        else:
            self.turns.append({"role": "assistant", "content": text})

    def retract_answer(self) -> None:
        """The last question stands again without an answer."""
        while self.turns and self.turns[-1]["role"] == "assistant":
            self.turns.pop()

    def undo(self) -> bool:
        """Take back the last question and its answer; False when there is none."""
        if self.question is None:
            return False
        self.retract_answer()
        self.turns.pop()
        return True

    def clear(self) -> None:
        """Start over; the system prompt stays."""
        self.turns.clear()

    def drop_oldest(self, fits: Callable[[list[Message]], bool]) -> int:
        """Forget the oldest exchanges until `fits(messages)`; the last one stays. How many messages went."""
        before = len(self.turns)
        while not fits(self.messages) and (second := self._second_question()) is not None:
            del self.turns[:second]
        return before - len(self.turns)

    def _second_question(self) -> int | None:
        questions = [place for place, turn in enumerate(self.turns) if turn["role"] == "user"]
        later = [place for place in questions if place > 0]
        return later[0] if later else None

    def save(self, path: Path) -> None:
        """Write the messages as JSON, the form that OpenAI's API takes."""
        from ..weights.atomic import replacing

        with replacing(path) as file:
            file.write(json.dumps(self._written(kept), ensure_ascii=False, indent=1).encode() + b"\n")

    def load(self, path: Path) -> None:
        """Go on with a saved conversation; PromptError when the file holds none, ImageError when a picture
        is gone, and nothing changes.
        """
        messages = _read(path)
        first = messages[:1] if messages and messages[0]["role"] == "system" else []
        if any(message["role"] == "system" for message in messages[len(first) :]):
            raise PromptError(f"{path}: only the first message can be a system prompt")
        if first and not isinstance(first[0]["content"], str):
            raise PromptError(f"{path}: a system prompt can only be text")
        self.system = first[0]["content"] if first else None
        self.turns = messages[len(first) :]

    def _written(self, write: Callable[[Content], object]) -> list[Message]:
        first = [{"role": "system", "content": self.system}] if self.system else []
        return [*first, *({**turn, "content": write(turn["content"])} for turn in self.turns)]


def _read(path: Path) -> list[Message]:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES + 1)
    except OSError as fault:
        raise PromptError(f"{path}: cannot be read: {fault.strerror}") from None
    if len(data) > FILE_BYTES:
        raise PromptError(f"{path}: is too large for a conversation")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise PromptError(f"{path}: is not JSON") from None
    if not isinstance(found, list):
        raise PromptError(f"{path}: {NO_CONVERSATION}")
    return [_message(path, value) for value in found]


def _message(path: Path, value: object) -> Message:
    if not isinstance(value, dict) or value.get("role") not in ROLES:
        raise PromptError(f"{path}: {NO_CONVERSATION}")
    try:
        content = read(value.get("content"))
    except ImageError as fault:
        raise ImageError(f"{path}: {fault}") from None
    except PromptError:
        raise PromptError(f"{path}: {NO_CONVERSATION}") from None
    if value["role"] == "assistant" and not isinstance(content, str):
        raise PromptError(f"{path}: what the assistant says can only be text")
    return {"role": value["role"], "content": content}
