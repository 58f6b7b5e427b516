"""POST /v1/messages and /v1/messages/count_tokens: Anthropic's API."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from ..engine.model import Model
from ..engine.options import Order
from ..engine.reply import Piece, Usage
from ..engine.sampling import Sampling
from ..inputs.prompt import Prompt
from . import asking, failure, faults
from .answering import Answering
from .messages_wire import Conversation, MessagesRequest, conversation, functions
from .presence import attended
from .schemas import calls_schema, checked
from .shapes import AnthropicFaulty
from .sse import EventStream, event
from .tools import CallReader, Part, parts

router = APIRouter(tags=["Anthropic"])
REASONS = {"stop": "end_turn", "length": "max_tokens", "context_full": "max_tokens"}


@router.post(
    "/v1/messages",
    responses=faults.documented({200: {"content": {"text/event-stream": {}}}}, AnthropicFaulty),
)
async def messages(request: Request, asked: MessagesRequest) -> Response:
    """Answer a conversation, as Anthropic's API does."""
    return await attended(request, _answer(request, asked))


@router.post("/v1/messages/count_tokens", responses=faults.documented(shape=AnthropicFaulty))
async def count_tokens(request: Request, asked: Conversation) -> Response:
    """How many tokens the prompt of a conversation has."""
    return await attended(request, _count(request, asked))


async def _count(request: Request, asked: Conversation) -> Response:
    model: Model = await request.app.state.models.ready(asked.model)
    return JSONResponse({"input_tokens": len((await _prompt(request, model, asked)).ids)})


async def _answer(request: Request, asked: MessagesRequest) -> Response:
    state = request.app.state
    model: Model = await state.models.ready(asked.model)
    asking.check_queue(model)
    forced, names = _forced(asked), [tool.name for tool in asked.tools or ()]
    order = Order(_sampling(asked), asked.max_tokens, asked.stop_sequences or (), _schema(asked))
    order = asking.limited(request, order, asked.max_tokens)
    prompt = await _prompt(request, model, asked)
    caller = asking.caller(request, asked.metadata.user_id if asked.metadata else None, asked.cache_salt)
    answering = await Answering.begin(model, [prompt], [order], caller)
    reader = CallReader(names, _several(asked), forced) if _told(asked) else None
    head = {
        "id": f"msg_{secrets.token_hex(12)}",
        "type": "message",
        "role": "assistant",
        "model": asked.model or state.models.default,
    }
    blocks = Blocks(reader)
    if asked.stream:
        events = _events(head, answering, blocks)
        return EventStream(events, answering.cancel, state.settings.keep_alive, state.settings.stall)
    return JSONResponse(await _whole(head, answering, blocks))


async def _prompt(request: Request, model: Model, asked: Conversation) -> Prompt:
    tools = functions(asked) if _told(asked) else None
    return await asking.prompt(model, conversation(asked), request.app.state.pictures, tools)


def _told(asked: Conversation) -> bool:
    """Whether the model is told of its functions."""
    return bool(asked.tools) and (asked.tool_choice is None or asked.tool_choice.type != "none")


def _several(asked: Conversation) -> bool:
    return asked.tool_choice is None or not asked.tool_choice.disable_parallel_tool_use


def _forced(asked: MessagesRequest) -> bool:
    """Whether the answer must be calls. RefusedError where the fields contradict each other."""
    choice = asked.tool_choice
    forced = choice is not None and choice.type in ("any", "tool")
    known = {tool.name for tool in asked.tools or ()}
    asking.refuse(len(known) < len(asked.tools or ()), "two functions have the same name", "tools")
    asking.refuse(forced and not known, "needs tools", "tool_choice")
    asking.refuse(
        choice is not None and choice.type == "tool" and choice.name not in known,
        "names a function that is not among the tools", "tool_choice",
    )  # fmt: skip
    limited = asked.output_config is not None and asked.output_config.format is not None
    asking.refuse(limited and _told(asked), "does not go together with tools", "output_config")
    return forced


def _schema(asked: MessagesRequest) -> Mapping[str, Any] | None:
    """The schema that the answer is held to."""
    if asked.output_config is not None and asked.output_config.format is not None:
        return checked(asked.output_config.format.json_schema)
    choice = asked.tool_choice
    if choice is None or choice.type not in ("any", "tool"):
        return None
    named = [tool["function"] for tool in functions(asked)]
    return calls_schema(
        [f for f in named if choice.type == "any" or f["name"] == choice.name], _several(asked)
    )


def _sampling(asked: MessagesRequest) -> Sampling:
    top_k = None if asked.top_k is None else max(asked.top_k, 0)
    given = {"temperature": asked.temperature, "top_p": asked.top_p, "top_k": top_k}
    said: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return Sampling(seed=secrets.randbits(53) if asked.seed is None else asked.seed, **said)


class Blocks:
    """The answer as blocks of text and calls."""

    def __init__(self, reader: CallReader | None) -> None:
        self._reader = reader
        self._open: str | None = None  # the type of the block that grows
        self._calls = 0
        self.blocks: list[dict[str, Any]] = []

    def take(self, piece: Piece) -> list[dict[str, Any]]:
        """The events that tell of a piece."""
        told: list[dict[str, Any]] = []
        for part in parts(self._reader, piece):
            told += self._grow(part)
        return told + (self._close() if piece.finish_reason is not None else [])

    def reason(self, piece: Piece, stopped_by: str | None) -> dict[str, Any]:
        """Why the answer ended with `piece`."""
        reason = REASONS[piece.finish_reason or "stop"]
        if stopped_by is not None:
            reason = "stop_sequence"
        elif reason == "end_turn" and self._calls:
            reason = "tool_use"
        return {"stop_reason": reason, "stop_sequence": stopped_by}

    def content(self) -> list[dict[str, Any]]:
        """The blocks, after the last piece."""
        return [
            {**block, "input": _object(block["input"])} if block["type"] == "tool_use" else block
            for block in self.blocks
        ]

    def _grow(self, part: Part) -> list[dict[str, Any]]:
        told: list[dict[str, Any]] = []
        if isinstance(part, str):
            if self._open != "text":
                told += self._close() + self._begin({"type": "text", "text": ""})
            self.blocks[-1]["text"] += part
            return [*told, self._delta({"type": "text_delta", "text": part})]
        if part.name:
            self._calls += 1
            call = {"type": "tool_use", "id": part.id, "name": part.name, "input": {}}
            told += self._close() + self._begin(call)
            self.blocks[-1]["input"] = ""
        self.blocks[-1]["input"] += part.arguments
        if part.arguments:
            told.append(self._delta({"type": "input_json_delta", "partial_json": part.arguments}))
        return told

    def _begin(self, block: dict[str, Any]) -> list[dict[str, Any]]:
        self._open = block["type"]
        self.blocks.append(dict(block))
        return [{"type": "content_block_start", "index": len(self.blocks) - 1, "content_block": block}]

    def _delta(self, delta: dict[str, Any]) -> dict[str, Any]:
        return {"type": "content_block_delta", "index": len(self.blocks) - 1, "delta": delta}

    def _close(self) -> list[dict[str, Any]]:
        if self._open is None:
            return []
        self._open = None
        return [{"type": "content_block_stop", "index": len(self.blocks) - 1}]


def _object(text: str) -> dict[str, Any]:
    """Arguments as an object; those that were cut off are given as they are."""
    try:
        value = json.loads(text)
    except ValueError:
        return {"incomplete": text}
    return value if isinstance(value, dict) else {"incomplete": text}


def _usage(usage: Usage) -> dict[str, int]:
    """Token counts; what was remembered is counted apart."""
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "output_tokens": usage.completion_tokens,
    }


async def _whole(head: dict[str, Any], answering: Answering, blocks: Blocks) -> dict[str, Any]:
    ending: dict[str, Any] = {}
    async for _, told in answering.events():
        if isinstance(told, Piece):
            blocks.take(told)
            if told.usage is not None:
                ending = {**blocks.reason(told, answering.stopped_by(0)), "usage": _usage(told.usage)}
    return {**head, "content": blocks.content(), **ending}


async def _events(head: dict[str, Any], answering: Answering, blocks: Blocks) -> AsyncGenerator[bytes, None]:
    def tell(told: dict[str, Any]) -> bytes:
        return event(told, told["type"])

    pieces = answering.events()
    try:
        usage = _usage(Usage(answering.prompt_tokens, 0))
        begun = {**head, "content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
        yield tell({"type": "message_start", "message": begun})
        async for _, piece in pieces:
            if not isinstance(piece, Piece):
                continue
            for told in blocks.take(piece):
                yield tell(told)
            if piece.usage is not None:
                reason = blocks.reason(piece, answering.stopped_by(0))
                yield tell({"type": "message_delta", "delta": reason, "usage": _usage(piece.usage)})
        yield tell({"type": "message_stop"})
    except Exception as fault:
        yield tell(failure.anthropic(*faults.told(fault)))
    finally:
        await pieces.aclose()
