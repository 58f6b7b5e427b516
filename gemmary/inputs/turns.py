"""Chat messages -> a prompt, by Gemma's rules (chat_template of the published models).

No template is run, and nothing is rendered to be tokenised later: each piece of text between two control
tokens is encoded by itself, and the control tokens are put between them. So no message can open or close a
turn, or show a picture that was not given.

Messages have the shape of OpenAI and Hugging Face: `{"role": ..., "content": ...}`, where the content is a
string or a list of parts, texts and pictures (see parts.py). Gemma knows two roles that take turns, user and
model ("assistant"), and no system role: the text of a system message stands in front of the first user turn.
What the official template accepts becomes the same ids here. Real conversations hold more, and where the
template refuses them, or would lose a part, this happens instead:

- messages of one role in a row become one turn, a blank line between them (pictures bring their own);
- "developer" is another name for system; a system message further on, or without a user turn behind it, is
  user text where it stands; all parts of the first one count, not only its first part;
- a conversation may begin with the assistant;
- results of tools are user text; calls of tools are text of the assistant (see tools.py).

With `strict=True` all of this is a PromptError, or lost, as in the official template. An assistant message at
the end is always continued: its turn stays open and no new one is begun.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..config import VisionConfig
from ..errors import PromptError
from . import tools as tool_text
from .crops import PanAndScan, pan_and_scan_of
from .draft import Draft
from .parts import Content, Shown, Sight, content_of, pictures_in
from .prompt import Prompt
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
    content: Content


def chat_prompt(
    tokenizer: Tokenizer,
    messages: Sequence[Mapping[str, Any]],
    vision: VisionConfig | None = None,
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    strict: bool = False,
    pan_and_scan: bool | PanAndScan = False,
    context: int | None = None,
) -> Prompt:
    """The prompt that asks the model for the next message, <bos> included.

    vision: sizes of what pictures become; None when the model cannot see, and pictures are an ImageError.
    tools: functions that the model may call, as OpenAI's API describes them. pan_and_scan: whether and how
    pictures are cut that do not say so themselves. PromptError says what is wrong with the messages,
    ImageError what is wrong with a picture. context: ContextFullError where pictures alone have more tokens.
    """
    _check(messages)
    sight = Sight(vision, pan_and_scan_of(pan_and_scan))
    instructions = tool_text.instructions(tools) if tools else ""
    turns = (_official_turns if strict else _turns)(messages, instructions, sight)
    return _written(Draft(tokenizer, vision, context), tokenizer, turns, ROLES[messages[-1]["role"]] == MODEL)


def chat_ids(
    tokenizer: Tokenizer,
    messages: Sequence[Mapping[str, Any]],
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    strict: bool = False,
) -> list[int]:
    """The ids of `chat_prompt` for a model that reads text only."""
    return chat_prompt(tokenizer, messages, tools=tools, strict=strict).ids


def _written(draft: Draft, tokenizer: Tokenizer, turns: list[Turn], continued: bool) -> Prompt:
    bos, start, end = tokenizer.bos, tokenizer.start_of_turn, tokenizer.end_of_turn
    if bos is None or start is None or end is None:
        raise PromptError("this model has no chat turns: give it plain text to continue instead of messages")
    draft.control(bos)
    for number, turn in enumerate(turns if continued else [*turns, Turn(MODEL, ())]):
        if number:  # the last turn stays open
            draft.control(end)
            draft.text("\n")
        draft.control(start)
        draft.text(f"{turn.role}\n")
        draft.content(turn.content)
    return draft.prompt()


def _turns(messages: Sequence[Mapping[str, Any]], instructions: str, sight: Sight) -> list[Turn]:
    """Turns of a conversation as people send it."""
    prefix: Content = (instructions, BREAK) if instructions else ()
    rest = messages
    if ROLES[messages[0]["role"]] == SYSTEM:
        prefix, rest = (*prefix, *content_of(messages[0], sight, trim=False), BREAK), messages[1:]
    turns: list[Turn] = []
    names = tool_text.call_names(messages)
    for message in rest:
        role = MODEL if ROLES[message["role"]] == MODEL else USER
        content = _with_tools(message, content_of(message, sight), names)
        if turns and turns[-1].role == role:
            content = _joined(turns.pop().content, content)
        turns.append(Turn(role, content))
    if not prefix:
        return turns
    if turns and turns[0].role == USER:
        return [Turn(USER, (*prefix, *turns[0].content)), *turns[1:]]
    return [Turn(USER, prefix[:-1]), *turns]


def _with_tools(message: Mapping[str, Any], content: Content, names: Mapping[str, str]) -> Content:
    """`content` with what tools have to do with it: whose result it is, or calls."""
    calls = tool_text.written_calls(message) if message["role"] != "tool" else ""
    gap = "\n" if calls and any(content) else ""
    return (tool_text.heading(message, names), *content, gap + calls)


def _joined(first: Content, second: Content) -> Content:
    """Two messages of one role. Pictures have blank lines around them already."""
    before, behind = [part for part in first if part], [part for part in second if part]
    if not before or not behind or isinstance(before[-1], Shown) or isinstance(behind[0], Shown):
        return (*before, *behind)
    return (*before, BREAK, *behind)


def _official_turns(messages: Sequence[Mapping[str, Any]], instructions: str, sight: Sight) -> list[Turn]:
    """The same where the official template accepts the messages; PromptError where it does not."""
    prefix: Content = (instructions, BREAK) if instructions else ()
    rest = messages
    if messages[0]["role"] == SYSTEM:
        prefix, rest = (*prefix, *_official_system(messages[0], sight), BREAK), messages[1:]
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
        turns.append(Turn(ROLES[role], (*(() if index else prefix), *content_of(message, sight))))
    return turns


def _official_system(message: Mapping[str, Any], sight: Sight) -> Content:
    """The official template reads the first part only."""
    content = content_of(message, sight, trim=False)
    if pictures_in(content):
        raise PromptError(
            "the official template shows no pictures of a system message: put them into a user message, or "
            "leave strict=True out"
        )
    return content if isinstance(message["content"], str) else content[:1]


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
