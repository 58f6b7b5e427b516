"""Requests of the OpenAI API, strictly typed.

Types are JSON's own: true is no number, "1" is no number, 1.0 is no whole number. A field that this server
does not know is refused by its name, for it would change the answer unseen; those that cannot change it are
listed in `Harmless` and have no effect. In messages unknown fields are dropped: clients send back there what
other servers have noted. `null` stands for the default.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)

MOST_CHOICES = 16
MOST_STOPS = 16
MOST_BIASES = 1024
MOST_FIELDS = 100  # of an object
MOST_FAULTS = 100  # of a request: the first is told
MOST_MESSAGES = 4096
MOST_PARTS = 16_384  # of all messages of a request
LARGEST_SEED = 9_223_372_036_854_776_000  # as OpenAI has it: 2**63, rounded as readers of JSON round it

Name = Annotated[str, Field(min_length=1, max_length=256)]
FunctionName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,128}$")]
Stop = Annotated[str, Field(min_length=1, max_length=256)]
TokenText = Annotated[str, Field(pattern=r"^[0-9]{1,7}$")]
Bias = Annotated[float, Field(ge=-100, le=100)]
Tokens = Annotated[int, Field(ge=1, le=(1 << 31) - 1)]
Seed = Annotated[int, Field(ge=-LARGEST_SEED, le=LARGEST_SEED)]
Id = Annotated[int, Field(ge=0, le=(1 << 31) - 1)]
Ids = Annotated[list[Id], Field(min_length=1, max_length=1 << 20, fail_fast=True)]
Tiles = Annotated[int, Field(ge=2, le=8)]


def few_fields(sent: Any, most: int) -> Any:
    """What was sent, if it has few keys. Looked at first: each that is wrong would be a fault of its own."""
    if isinstance(sent, dict) and len(sent) > most:
        raise ValueError(f"more than {most:,} fields")
    return sent


def at_most(most: int) -> BeforeValidator:
    """A bound for the keys of an object."""
    return BeforeValidator(lambda sent: few_fields(sent, most))


class Note(BaseModel):
    """JSON types as they are; unknown fields are dropped."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, allow_inf_nan=False)


class Strict(Note):
    """The same; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _few_fields(cls, sent: Any) -> Any:
        return few_fields(sent, MOST_FIELDS)


class Body(Strict):
    """A whole request. However much is wrong with it, few faults are made into words."""

    @model_validator(mode="wrap")
    @classmethod
    def _few_faults(cls, sent: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """FastAPI makes each fault a dict, on the event loop: those of a megabyte would stop the server."""
        try:
            return handler(sent)
        except ValidationError as faults:
            if faults.error_count() > MOST_FAULTS:
                raise ValueError("more is wrong than can be told") from None
            raise


class TextPart(Note):
    """Text in a message."""

    type: Literal["text"]
    text: str


class Link(Note):
    """Where a picture is: a data URL."""

    url: Annotated[str, Field(min_length=1)]


class ImagePart(Note):
    """A picture in a message. pan_and_scan, tiles: how it is cut, if not as the request says."""

    type: Literal["image_url"]
    image_url: Link
    pan_and_scan: bool | None = None
    tiles: Tiles | None = None


Part = Annotated[TextPart | ImagePart, Discriminator("type")]
Texts = str | Annotated[list[TextPart], Field(max_length=MOST_PARTS, fail_fast=True)]
Parts = str | Annotated[list[Part], Field(max_length=MOST_PARTS, fail_fast=True)]


class SystemMessage(Note):
    """What stands above a conversation."""

    role: Literal["system", "developer"]
    content: Texts


class UserMessage(Note):
    """What a person says."""

    role: Literal["user"]
    content: Parts


class CalledFunction(Note):
    """A function that the model called: its arguments are JSON in a string."""

    name: Annotated[str, Field(min_length=1, max_length=256)]
    arguments: str


class CallPart(Note):
    """A call of the model."""

    id: Annotated[str, Field(max_length=256)]
    type: Literal["function"] = "function"
    function: CalledFunction


class AssistantMessage(Note):
    """What the model said; the last message of a conversation may be its beginning of an answer."""

    role: Literal["assistant"]
    content: Texts | None = None
    tool_calls: Annotated[list[CallPart], Field(max_length=128, fail_fast=True)] | None = None


class ToolMessage(Note):
    """What a function gave back."""

    role: Literal["tool"]
    content: Parts
    tool_call_id: Annotated[str, Field(max_length=256)]


Message = Annotated[SystemMessage | UserMessage | AssistantMessage | ToolMessage, Discriminator("role")]


def few_parts(messages: Any) -> Any:
    """The messages, if they do not have too many parts: each takes far more memory than it has bytes."""
    if isinstance(messages, list) and len(messages) <= MOST_MESSAGES:
        for number, _ in enumerate(_parts(messages)):
            if number == MOST_PARTS:
                raise ValueError(f"more than {MOST_PARTS:,} parts in all")
    return messages


def _parts(messages: list[Any]) -> Iterator[Any]:
    """Parts and calls of messages, and parts of these parts."""
    for message in messages:
        for part in _within(message):
            yield part
            yield from _within(part)


def _within(value: Any) -> Iterator[Any]:
    """What is listed in a message, or in a part of one."""
    if isinstance(value, dict):
        for listed in (value.get("content"), value.get("tool_calls")):
            yield from listed if isinstance(listed, list) else ()


Messages = Annotated[
    list[Message],
    Field(min_length=1, max_length=MOST_MESSAGES, fail_fast=True),
    BeforeValidator(few_parts),
]


class Function(Strict):
    """A function that the model may call. parameters: a JSON schema of an object."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Strict):
    """A tool: a function."""

    type: Literal["function"]
    function: Function


Tools = Annotated[list[Tool], Field(max_length=128, fail_fast=True)]


class Chosen(Strict):
    """The name of a function."""

    name: FunctionName


class NamedChoice(Strict):
    """The function that has to be called."""

    type: Literal["function"]
    function: Chosen


class TextFormat(Strict):
    """Any text."""

    type: Literal["text"]


class ObjectFormat(Strict):
    """Any JSON object."""

    type: Literal["json_object"]


class SchemaOf(Strict):
    """A JSON schema and its name. The answer always fits it, whatever `strict` says."""

    model_config = ConfigDict(protected_namespaces=())

    name: FunctionName
    description: str | None = None
    json_schema: Annotated[dict[str, Any], Field(alias="schema")]
    strict: bool | None = None


class SchemaFormat(Strict):
    """JSON that fits a schema."""

    type: Literal["json_schema"]
    json_schema: SchemaOf


Format = Annotated[TextFormat | ObjectFormat | SchemaFormat, Discriminator("type")]


class StreamOptions(Strict):
    """What comes with a stream."""

    include_usage: bool | None = None
    include_obfuscation: Annotated[bool | None, Field(description="No effect.")] = None
    continuous_usage_stats: Annotated[
        bool | None, Field(description="No effect: usage comes once, at the end.")
    ] = None


class Harmless(Body):
    """Fields of OpenAI's API that cannot change an answer here: they are taken, and have no effect."""

    metadata: Annotated[dict[str, Any] | None, Field(description="No effect.")] = None
    store: Annotated[bool | None, Field(description="No effect: nothing is stored.")] = None
    service_tier: Annotated[str | None, Field(description="No effect.")] = None
    safety_identifier: Annotated[str | None, Field(description="No effect.")] = None
    prompt_cache_key: Annotated[str | None, Field(description="No effect: see cache_salt.")] = None
    prompt_cache_retention: Annotated[str | None, Field(description="No effect.")] = None
    reasoning_effort: Annotated[str | None, Field(description="No effect.")] = None
    verbosity: Annotated[str | None, Field(description="No effect.")] = None


class Asked(Harmless):
    """What chats and completions have in common. Defaults of sampling are those of Gemma 3."""

    model: Annotated[Name | None, Field(description="Which model; without it, the first.")] = None
    n: Annotated[
        int | None,
        Field(ge=1, le=MOST_CHOICES, description="Answers; number i (from 0) is that of seed + i."),
    ] = None
    seed: Annotated[Seed | None, Field(description="The same seed gives the same text.")] = None
    stop: Annotated[
        Stop | Annotated[list[Stop], Field(max_length=MOST_STOPS)] | None,
        Field(description="The answer ends in front of the first of these."),
    ] = None
    temperature: Annotated[float | None, Field(ge=0, le=100, description="0 is greedy; 1 if not said.")] = (
        None
    )
    top_p: Annotated[float | None, Field(ge=0, le=1, description="0.95 if not said.")] = None
    top_k: Annotated[int | None, Field(ge=-1, le=1 << 31, description="64 if not said; 0 or -1: all.")] = None
    min_p: Annotated[float | None, Field(ge=0, le=1, description="0 if not said.")] = None
    presence_penalty: Annotated[float | None, Field(ge=-2, le=2)] = None
    frequency_penalty: Annotated[float | None, Field(ge=-2, le=2)] = None
    repeat_penalty: Annotated[float | None, Field(ge=0.01, le=100, description="1: none.")] = None
    logit_bias: Annotated[
        dict[TokenText, Bias] | None,
        Field(max_length=MOST_BIASES, description="Added to logits, by token id."),
        at_most(MOST_BIASES),
    ] = None
    stream: Annotated[bool | None, Field(description="Send the answer while it is made.")] = None
    stream_options: StreamOptions | None = None
    user: Annotated[str | None, Field(max_length=256, description="Users take turns in the queue.")] = None
    cache_salt: Annotated[
        str | None,
        Field(max_length=256, description="Prompts share what is remembered of them under one salt only."),
    ] = None
    ignore_eos: Annotated[
        bool | None, Field(description="The model may not end the answer: for tools that measure.")
    ] = None
    return_progress: Annotated[
        bool | None, Field(description="Stream how much of the prompt is read, as prompt_progress.")
    ] = None


class ChatRequest(Asked):
    """POST /v1/chat/completions."""

    messages: Messages
    max_tokens: Annotated[Tokens | None, Field(description="Older name of max_completion_tokens.")] = None
    max_completion_tokens: Annotated[
        Tokens | None, Field(description="The longest answer; what the context holds if not said.")
    ] = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int | None, Field(ge=0, le=20)] = None
    response_format: Format | None = None
    tools: Tools | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedChoice | None = None
    parallel_tool_calls: bool | None = None
    pan_and_scan: Annotated[
        bool | None, Field(description="Show crops of wide and tall pictures too, for small print.")
    ] = None
    tiles: Annotated[Tiles | None, Field(description="Show tiles x tiles crops of every picture.")] = None
    modalities: Annotated[list[Literal["text"]], Field(max_length=8, fail_fast=True)] | None = None
    functions: Annotated[None, Field(description="Older than tools, and not here.")] = None
    function_call: Annotated[None, Field(description="Older than tool_choice, and not here.")] = None
    audio: Annotated[None, Field(description="Not here.")] = None
    prediction: Annotated[None, Field(description="Not here.")] = None
    web_search_options: Annotated[None, Field(description="Not here.")] = None


class CompletionRequest(Asked):
    """POST /v1/completions: text goes on, without a chat template. Ids are taken as they are."""

    prompt: (
        str
        | Ids
        | Annotated[list[str], Field(min_length=1, max_length=MOST_CHOICES, fail_fast=True)]
        | Annotated[list[Ids], Field(min_length=1, max_length=MOST_CHOICES, fail_fast=True)]
    )
    max_tokens: Annotated[Tokens | None, Field(description="16 if not said, as OpenAI has it.")] = None
    logprobs: Annotated[int | None, Field(ge=0, le=20)] = None
    echo: Annotated[bool | None, Field(description="Put the prompt in front; not with logprobs.")] = None
    best_of: Annotated[None, Field(description="Not here: ask for n, and choose.")] = None
    suffix: Annotated[None, Field(description="Not here: Gemma 3 does not fill in the middle.")] = None


class TokenizeRequest(Body):
    """POST /tokenize: a text (`prompt` or `content`), or the messages of a chat."""

    model: Name | None = None
    prompt: str | None = None
    content: str | None = None
    messages: Messages | None = None
    tools: Tools | None = None
    add_special_tokens: Annotated[
        bool | None, Field(description="Put <bos> in front of a text; true if not said.")
    ] = None
    return_token_strs: Annotated[bool | None, Field(description="The text of each token, too.")] = None


class DetokenizeRequest(Body):
    """POST /detokenize."""

    model: Name | None = None
    tokens: Annotated[list[Id], Field(max_length=1 << 20, fail_fast=True)]
