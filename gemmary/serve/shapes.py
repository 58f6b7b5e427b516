"""Answers of the OpenAI API, as they are written."""

from __future__ import annotations

from typing import (
    Any,
    NotRequired,  # typing has one that pydantic takes from 3.12 on
)

from typing_extensions import TypedDict

from ..engine.reply import Timings, Usage
from .answering import Reading


class Cached(TypedDict):
    """Of the prompt's tokens, those that were remembered."""

    cached_tokens: int


class Used(TypedDict):
    """Token counts."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: Cached


class Spent(TypedDict):
    """Tokens, milliseconds and speeds of reading and writing, named as llama.cpp's server names them."""

    prompt_n: int
    prompt_ms: float
    prompt_per_second: float
    predicted_n: int
    predicted_ms: float
    predicted_per_second: float


class CalledFunction(TypedDict):
    """A function and its arguments, JSON in a string."""

    name: str
    arguments: str


class Call(TypedDict):
    """A call of a function."""

    id: str
    type: str
    function: CalledFunction


class Spoken(TypedDict):
    """The model's message."""

    role: str
    content: str | None
    refusal: None
    tool_calls: NotRequired[list[Call]]


class ChatChoice(TypedDict):
    """One of n answers."""

    index: int
    message: Spoken
    logprobs: dict[str, Any] | None
    finish_reason: str


class ChatAnswer(TypedDict):
    """A whole answer in a chat."""

    id: str
    object: str
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Used
    timings: Spent


class TextChoice(TypedDict):
    """One of n continuations."""

    index: int
    text: str
    logprobs: dict[str, Any] | None
    finish_reason: str


class TextAnswer(TypedDict):
    """Continuations of a text."""

    id: str
    object: str
    created: int
    model: str
    choices: list[TextChoice]
    usage: Used
    timings: Spent


class Entry(TypedDict):
    """A model, as the clients of OpenAI and Anthropic read it; the last three are ours.

    None: not known before it is loaded.
    """

    id: str
    object: str
    created: int
    owned_by: str
    type: str
    display_name: str
    created_at: str
    context_length: int | None
    vision: bool | None
    default: bool


class Entries(TypedDict):
    """All models."""

    object: str
    data: list[Entry]
    has_more: bool
    first_id: str | None
    last_id: str | None


class Tokenized(TypedDict):
    """Ids of a text."""

    tokens: list[int]
    count: int
    max_model_len: int
    token_strs: NotRequired[list[str]]


class Detokenized(TypedDict):
    """The text of ids, under the two names that it has elsewhere."""

    prompt: str
    content: str


class Fault(TypedDict):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class Faulty(TypedDict):
    """An error."""

    error: Fault


class AnthropicFault(TypedDict):
    """What went wrong."""

    type: str
    message: str


class AnthropicFaulty(TypedDict):
    """An error, as Anthropic's API writes it."""

    type: str
    error: AnthropicFault


def used(usages: list[Usage], prompts: int = 1) -> Used:
    """Token counts of answers to `prompts` prompts, as many to each: a prompt counts once."""
    each = max(1, len(usages) // prompts)
    read = sum(usage.prompt_tokens for usage in usages[::each])
    written = sum(usage.completion_tokens for usage in usages)
    cached = sum(usage.cached_tokens for usage in usages[::each])
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def spent(timings: Timings) -> Spent:
    """Seconds and speeds."""
    return {
        "prompt_n": timings.prefill_tokens,
        "prompt_ms": timings.prefill * 1e3,
        "prompt_per_second": timings.prefill_speed,
        "predicted_n": timings.decode_tokens,
        "predicted_ms": timings.decode * 1e3,
        "predicted_per_second": timings.decode_speed,
    }


def progress(reading: Reading) -> dict[str, int]:
    """How much of a prompt is read, named as llama.cpp's server names it."""
    return {"total": reading.total, "cache": reading.cached, "processed": reading.read}
