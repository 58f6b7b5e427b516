"""Chat messages -> ids, by Gemma's rules (spec/gemma3.md, 6.2).

No template is run, and nothing is rendered to be tokenised later: each piece of text between two control
tokens is encoded by itself, and the control tokens are put between them. So no message can open or close a
turn.

Messages have the shape of OpenAI and Hugging Face: `{"role": ..., "content": ...}`, where the content is a
string or a list of parts `{"type": "text", "text": ...}`. Gemma knows two roles that take turns, user and
model ("assistant"), and no system role: the text of a system message stands in front of the first user turn.
What the official template accepts becomes the same ids here. Real conversations hold more, and where the
template refuses them, or would lose a part, this happens instead:

- messages of one role in a row become one turn, a blank line between them;
- "developer" is another name for system; a system message further on, or without a user turn behind it, is
  user text where it stands; all text parts of the first one count, not only its first part;
- a conversation may begin with the assistant;
- results of tools are user text; calls of tools are text of the assistant (see tools.py).

With `strict=True` all of this is a PromptError, or lost, as in the official template. An assistant message at
the end is always continued: its turn stays open and no new one is begun.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import PromptError
from . import tools as tool_text
from .tokenizer import Tokenizer

USER, MODEL, SYSTEM = "user", "model", "system"
ROLES = {
    "user": USER, "tool": USER, "assistant": MODEL, "model": MODEL, "system": SYSTEM, "developer": SYSTEM,
}  # fmt: skip
OFFICIAL = ("user", "assistant", "model")  # roles after the system message, in the official template
BREAK = "\n\n"


@dataclass(frozen=True)
class Turn:
    """What one side says: role "user" or "model"."""

    role: str
    text: str


def chat_ids(
    tokenizer: Tokenizer,
    messages: Sequence[Mapping[str, Any]],
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    strict: bool = False,
) -> list[int]:
    """The prompt that asks the model for the next message, <bos> included.

    tools: functions that the model may call, as OpenAI's API describes them. PromptError says what is wrong
    with the messages.
    """
    _check(messages)
    instructions = tool_text.instructions(tools) if tools else ""
    turns = _official_turns(messages, instructions) if strict else _turns(messages, instructions)
    return _ids(tokenizer, turns, ROLES[messages[-1]["role"]] == MODEL)


def _ids(tokenizer: Tokenizer, turns: list[Turn], continued: bool) -> list[int]:
    bos, start, end = tokenizer.bos, tokenizer.start_of_turn, tokenizer.end_of_turn
    if bos is None or start is None or end is None:
        raise PromptError("this model has no chat turns: give it plain text to continue instead of messages")
    if not continued:
        turns = [*turns, Turn(MODEL, "")]
    ids, newline = [bos], tokenizer.encode("\n")
    for turn in turns:
        ids += [start, *tokenizer.encode(f"{turn.role}\n{turn.text}"), end, *newline]
    del ids[-1 - len(newline) :]  # the last turn stays open
    return ids


def _turns(messages: Sequence[Mapping[str, Any]], instructions: str) -> list[Turn]:
    """Turns of a conversation as people send it."""
    prefix, rest = [instructions] if instructions else [], messages
    if ROLES[messages[0]["role"]] == SYSTEM:
        prefix, rest = [*prefix, _text(messages[0], trim=False)], messages[1:]
    turns: list[Turn] = []
    names = tool_text.call_names(messages)
    for message in rest:
        role = MODEL if ROLES[message["role"]] == MODEL else USER
        text = tool_text.message_text(message, _text(message), names)
        if turns and turns[-1].role == role:
            text = BREAK.join(part for part in (turns.pop().text, text) if part)
        turns.append(Turn(role, text))
    if not prefix:
        return turns
    if turns and turns[0].role == USER:
        return [Turn(USER, BREAK.join([*prefix, turns[0].text])), *turns[1:]]
    return [Turn(USER, BREAK.join(prefix)), *turns]


def _official_turns(messages: Sequence[Mapping[str, Any]], instructions: str) -> list[Turn]:
    """The same where the official template accepts the messages; PromptError where it does not."""
    prefix, rest = f"{instructions}{BREAK}" if instructions else "", messages
    if messages[0]["role"] == SYSTEM:
        prefix, rest = f"{prefix}{_official_system(messages[0])}{BREAK}", messages[1:]
    turns: list[Turn] = []
    for index, message in enumerate(rest):
        role = message["role"]
        if (role == "user") != (index % 2 == 0) or role not in OFFICIAL:
            raise PromptError(
                "roles must alternate user/assistant/user/assistant, after at most one system message; "
                f"after {index} of them comes {role!r}. Without strict=True such conversations are accepted"
            )
        if message.get("tool_calls"):
            raise PromptError("the official template has no tool calls: use them without strict=True")
        turns.append(Turn(ROLES[role], ("" if index else prefix) + _text(message)))
    return turns


def _official_system(message: Mapping[str, Any]) -> str:
    """The official template reads the first part only."""
    content = message["content"]
    return _text({"content": content[:1] if isinstance(content, list) else content}, trim=False)


def _check(messages: object) -> None:
    """PromptError unless `messages` is a list of messages with known roles."""
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Sequence) or not messages:
        raise PromptError('messages must be a list such as [{"role": "user", "content": "Hello"}]')
    for number, message in enumerate(messages, 1):
        if not isinstance(message, Mapping):
            raise PromptError(f'message {number} must look like {{"role": "user", "content": "Hello"}}')
        role = message.get("role")
        if not isinstance(role, str) or role not in ROLES:
            raise PromptError(f"message {number} has an unknown role: it must be one of {', '.join(ROLES)}")


def _text(message: Mapping[str, Any], trim: bool = True) -> str:
    """The text of a message: its parts joined as they are, each without white space around it if `trim`."""
    content = message.get("content")
    if content is None and message.get("tool_calls"):
        return ""
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(parts, (list, tuple)):
        raise PromptError("the content of a message must be a string or a list of parts")
    texts = map(_part_text, parts)
    return "".join(text.strip() if trim else text for text in texts)


def _part_text(part: object) -> str:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind in ("image", "image_url"):
        raise PromptError("this model reads text only: leave the pictures out, or load a model that can see")
    text = part.get("text") if isinstance(part, Mapping) and kind == "text" else None
    if not isinstance(text, str):
        raise PromptError('a part of a message must look like {"type": "text", "text": "Hello"}')
    return text
