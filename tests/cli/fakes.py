"""A model that says what it is told to, and a user whose lines are known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gemmary.config import NANO, Config
from gemmary.engine.reply import FinishReason, Piece, Timings, Usage
from gemmary.errors import ContextFullError, PromptError
from gemmary.inputs.crops import pan_and_scan_of
from gemmary.inputs.prompt import Prompt
from gemmary.inputs.views import look

BLIND = replace(NANO, vision=None)
VIEW = 260  # tokens of a picture or crop


def words(content: Any) -> str:
    """The text of a message."""
    return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)


@dataclass
class FakeModel:
    """Answers with `answers`, one word a piece; a word is a token. An exception among the words is raised.

    `asked` has the messages and arguments of every call, `closed` how many streams were closed.
    """

    answers: list[list[Any]]
    context: int = 1000
    asked: list[tuple[list[dict[str, Any]], dict[str, Any]]] = field(default_factory=list)
    closed: int = 0
    config: Config = BLIND

    def prompt(self, messages: list[dict[str, Any]], pan_and_scan: Any = False) -> Prompt:
        contents = [message["content"] for message in messages]
        lists = [content for content in contents if isinstance(content, list)]
        shown = [part["image"] for parts in lists for part in parts if "image" in part]
        seen = [look(image, 4, pan_and_scan_of(pan_and_scan)) for image in shown]
        keys = tuple(key for views in seen for key in views.keys)
        ids = list(range(sum(len(words(content).split()) for content in contents) + VIEW * len(keys)))
        return Prompt(ids, np.concatenate([views.pixels for views in seen]) if seen else None, keys)

    def chat(self, messages: list[dict[str, Any]], stream: bool, progress: Any, **arguments: Any) -> Any:
        assert stream
        self.asked.append(([dict(message) for message in messages], arguments))
        used = len(self.prompt(messages).ids)
        if used >= self.context:
            raise ContextFullError("too long")
        if not messages or not any(words(message["content"]).strip() for message in messages):
            raise PromptError("empty")
        return self._pieces(used, self.answers.pop(0))

    def _pieces(self, used: int, words: list[Any]) -> Iterator[Piece]:
        try:
            reason: FinishReason = "stop"
            for count, word in enumerate(words, 1):
                if isinstance(word, BaseException):
                    raise word
                if used + count >= self.context:
                    reason = "context_full"
                    break
                yield Piece(word, (count,))
            usage, timings = Usage(used, len(words)), Timings(0.1, 0.5, used, len(words))
            yield Piece("", (), reason, None, usage, timings)
        finally:
            self.closed += 1


class User:
    """Types `lines`; exceptions among them are Ctrl-C and Ctrl-D. `defaults`: what stood there before."""

    def __init__(self, *lines: str | BaseException) -> None:
        self._lines = [*lines, EOFError()]
        self.defaults: list[str] = []
        self.more: list[bool] = []

    def __call__(self, default: str = "", more: bool = False) -> str:
        self.defaults.append(default)
        self.more.append(more)
        line = self._lines.pop(0)
        if isinstance(line, BaseException):
            raise line
        return line
