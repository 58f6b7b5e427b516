"""Requests of Anthropic's Messages API, and the conversation in them as ours."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field

from .wire import MOST_MESSAGES, Body, FunctionName, Name, Note, Seed, Stop, Strict, Tokens, few_parts

MAX_BLOCKS = 4096
NO_EFFECT = "No effect."


class TextBlock(Note):
    """Text."""

    type: Literal["text"]
    text: str


class Base64Source(Note):
    """A picture in base64. Its media type is not believed."""

    type: Literal["base64"]
    media_type: Annotated[str, Field(pattern=r"^image/[a-z0-9.+-]{1,64}$")]
    data: str


class UrlSource(Note):
    """A picture somewhere else."""

    type: Literal["url"]
    url: Annotated[str, Field(min_length=1)]


class ImageBlock(Note):
    """A picture."""

    type: Literal["image"]
    source: Annotated[Base64Source | UrlSource, Discriminator("type")]


Blocks = (
    str
    | Annotated[
        list[Annotated[TextBlock | ImageBlock, Discriminator("type")]],
        Field(max_length=MAX_BLOCKS, fail_fast=True),
    ]
)


class ToolUseBlock(Note):
    """A call of the model."""

    type: Literal["tool_use"]
    id: Annotated[str, Field(max_length=256)]
    name: FunctionName
    input: dict[str, Any]


class ToolResultBlock(Note):
    """What a function gave back."""

    type: Literal["tool_result"]
    tool_use_id: Annotated[str, Field(max_length=256)]
    content: Blocks | None = None
    is_error: bool | None = None


class ThinkingBlock(Note):
    """What another model thought: it is left out."""

    type: Literal["thinking", "redacted_thinking"]


Block = Annotated[
    TextBlock | ImageBlock | ToolUseBlock | ToolResultBlock | ThinkingBlock, Discriminator("type")
]


class Turn(Note):
    """What one side says."""

    role: Literal["user", "assistant"]
    content: str | Annotated[list[Block], Field(max_length=MAX_BLOCKS, fail_fast=True)]


class AnthropicTool(Note):
    """A function that the model may call."""

    type: Literal["custom"] | None = None
    name: FunctionName
    description: str | None = None
    input_schema: dict[str, Any]


class ToolChoice(Note):
    """Whether functions may, or must, be called."""

    type: Literal["auto", "any", "tool", "none"]
    name: FunctionName | None = None
    disable_parallel_tool_use: bool | None = None


class SchemaOutput(Strict):
    """JSON that fits a schema."""

    type: Literal["json_schema"]
    json_schema: Annotated[dict[str, Any], Field(alias="schema")]


class OutputConfig(Strict):
    """What the answer looks like."""

    format: SchemaOutput | None = None
    effort: Annotated[str | None, Field(description=NO_EFFECT)] = None


class Metadata(Note):
    """Who asks."""

    user_id: Annotated[str | None, Field(max_length=256)] = None


class NoThinking(Strict):
    """Gemma 3 does not think before it speaks."""

    type: Literal["disabled"]


class Conversation(Body):
    """What messages and the counting of their tokens have in common."""

    model: Name | None = None
    messages: Annotated[
        list[Turn],
        Field(min_length=1, max_length=MOST_MESSAGES, fail_fast=True),
        BeforeValidator(few_parts),
    ]
    system: str | Annotated[list[TextBlock], Field(max_length=MAX_BLOCKS, fail_fast=True)] | None = None
    tools: Annotated[list[AnthropicTool], Field(max_length=128, fail_fast=True)] | None = None
    tool_choice: ToolChoice | None = None
    output_config: OutputConfig | None = None
    thinking: NoThinking | None = None
    cache_control: Annotated[dict[str, Any] | None, Field(description=NO_EFFECT)] = None


class MessagesRequest(Conversation):
    """POST /v1/messages."""

    max_tokens: Tokens
    stop_sequences: Annotated[list[Stop], Field(max_length=16)] | None = None
    stream: bool | None = None
    temperature: Annotated[float | None, Field(ge=0, le=100)] = None
    top_p: Annotated[float | None, Field(ge=0, le=1)] = None
    top_k: Annotated[int | None, Field(ge=-1, le=1 << 31)] = None
    seed: Annotated[Seed | None, Field(description="Ours: the same seed gives the same text.")] = None
    cache_salt: Annotated[str | None, Field(max_length=256, description="Ours: see chat completions.")] = None
    metadata: Metadata | None = None
    service_tier: Annotated[str | None, Field(description=NO_EFFECT)] = None
    inference_geo: Annotated[str | None, Field(description=NO_EFFECT)] = None
    speed: Annotated[str | None, Field(description=NO_EFFECT)] = None


def conversation(asked: Conversation) -> list[dict[str, Any]]:
    """The messages in OpenAI's shape, the system prompt first."""
    messages: list[dict[str, Any]] = []
    if asked.system:
        text = asked.system if isinstance(asked.system, str) else "\n\n".join(b.text for b in asked.system)
        messages.append({"role": "system", "content": text})
    for turn in asked.messages:
        messages += _said(turn)
    return messages


def functions(asked: Conversation) -> list[dict[str, Any]]:
    """The tools in OpenAI's shape."""
    return [
        {"type": "function",
         "function": {"name": tool.name, "description": tool.description or "",
                      "parameters": tool.input_schema}}
        for tool in asked.tools or ()
    ]  # fmt: skip


def _said(turn: Turn) -> list[dict[str, Any]]:
    """One turn; results of tools are messages of their own, in front."""
    if isinstance(turn.content, str):
        return [{"role": turn.role, "content": turn.content}]
    results = [_result(block) for block in turn.content if isinstance(block, ToolResultBlock)]
    parts = [_part(block) for block in turn.content if isinstance(block, TextBlock | ImageBlock)]
    calls = [_call(block) for block in turn.content if isinstance(block, ToolUseBlock)]
    message: dict[str, Any] = {"role": turn.role, "content": parts or ("" if not calls else None)}
    if calls:
        message["tool_calls"] = calls
    return [*results, message] if parts or calls or not results else results


def _result(block: ToolResultBlock) -> dict[str, Any]:
    content = block.content or ""
    parts: Any = content if isinstance(content, str) else [_part(part) for part in content]
    if block.is_error:
        error = {"type": "text", "text": "Error:\n"}
        parts = "Error:\n" + parts if isinstance(parts, str) else [error, *parts]
    return {"role": "tool", "tool_call_id": block.tool_use_id, "content": parts}


def _part(block: TextBlock | ImageBlock) -> dict[str, Any]:
    if isinstance(block, TextBlock):
        return {"type": "text", "text": block.text}
    source = block.source
    url = source.url if isinstance(source, UrlSource) else f"data:{source.media_type};base64,{source.data}"
    return {"type": "image_url", "image_url": {"url": url}}


def _call(block: ToolUseBlock) -> dict[str, Any]:
    function = {"name": block.name, "arguments": json.dumps(block.input)}
    return {"id": block.id, "type": "function", "function": function}
