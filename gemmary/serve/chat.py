"""POST /v1/chat/completions."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from ..engine.model import Model
from ..engine.options import Order
from ..engine.reply import Piece, TokenLogprob, Usage
from . import asking, failure, faults
from .answering import Answering, orders
from .presence import attended
from .schemas import calls_schema, checked
from .shapes import Call, ChatAnswer, ChatChoice, progress, spent, used
from .sse import DONE, EventStream, event
from .tools import CallReader, Part, parts
from .wire import ChatRequest, NamedChoice, ObjectFormat, SchemaFormat

router = APIRouter(tags=["OpenAI"])
LOWEST = -9999.0  # a log-probability that stands for nothing at all
REASONS = {"context_full": "length"}


@router.post(
    "/v1/chat/completions",
    response_model=ChatAnswer,
    responses=faults.documented({200: {"content": {"text/event-stream": {}}}}),
)
async def chat(request: Request, asked: ChatRequest) -> Response:
    """Answer a conversation. With `stream`, as events that end with [DONE]."""
    return await attended(request, _chat(request, asked))


async def _chat(request: Request, asked: ChatRequest) -> Response:
    state = request.app.state
    model: Model = await state.models.ready(asked.model)
    asking.check_queue(model)
    forced, order = forced_calls(asked), _order(asked, model)
    order = asking.limited(request, order, order.max_tokens)
    tools = [tool.model_dump(exclude_none=True) for tool in asked.tools or ()]
    told = tools if asked.tool_choice != "none" else []
    messages = [message.model_dump(exclude_none=True) for message in asked.messages]
    prompt = await asking.prompt(
        model, messages, state.pictures, told or None, bool(asked.pan_and_scan), asked.tiles
    )
    caller = asking.caller(request, asked.user, asked.cache_salt)
    answering = await Answering.begin(model, [prompt], orders(order, asked.n or 1), caller)
    names = [tool["function"]["name"] for tool in told]
    several = asked.parallel_tool_calls is not False
    choices = [
        Choice(i, model, CallReader(names, several, forced) if names else None, bool(asked.logprobs))
        for i in range(asked.n or 1)
    ]
    head = {
        "id": f"chatcmpl-{secrets.token_hex(12)}",
        "created": int(time.time()),
        "model": asked.model or state.models.default,
    }
    if asked.stream:
        events = _events(head, answering, choices, asked)
        return EventStream(events, answering.cancel, state.settings.keep_alive, state.settings.stall)
    return JSONResponse(await _whole(head, answering, choices))


def forced_calls(asked: ChatRequest) -> bool:
    """Whether the answer must be calls. RefusedError where the fields contradict each other."""
    named = isinstance(asked.tool_choice, NamedChoice)
    forced = named or asked.tool_choice == "required"
    known = {tool.function.name for tool in asked.tools or ()}
    refuse = asking.refuse
    refuse(forced and not known, "needs tools", "tool_choice")
    refuse(len(known) < len(asked.tools or ()), "two functions have the same name", "tools")
    refuse(
        isinstance(asked.tool_choice, NamedChoice) and asked.tool_choice.function.name not in known,
        "names a function that is not among the tools", "tool_choice",
    )  # fmt: skip
    limited = isinstance(asked.response_format, ObjectFormat | SchemaFormat)
    refuse(
        limited and known and asked.tool_choice != "none",
        'does not go together with tools: say tool_choice "none"', "response_format",
    )  # fmt: skip
    refuse(asked.top_logprobs is not None and not asked.logprobs, "needs logprobs: true", "top_logprobs")
    return forced


def _order(asked: ChatRequest, model: Model) -> Order:
    logprobs = (asked.top_logprobs or 0) if asked.logprobs else None
    longest = asked.max_completion_tokens or asked.max_tokens
    sampling = asking.sampling(asked, logprobs, model.tokenizer.stops)
    return Order(sampling, longest, asking.stops(asked), _schema(asked))


def _schema(asked: ChatRequest) -> Mapping[str, Any] | None:
    """The schema that the answer is held to."""
    form, choice = asked.response_format, asked.tool_choice
    if isinstance(form, SchemaFormat):
        return checked(form.json_schema.json_schema)
    if isinstance(form, ObjectFormat):
        return {"type": "object"}
    if choice != "required" and not isinstance(choice, NamedChoice):
        return None
    functions = [
        tool.function.model_dump(exclude_none=True)
        for tool in asked.tools or ()
        if choice == "required" or tool.function.name == choice.function.name
    ]
    return calls_schema(functions, asked.parallel_tool_calls is not False)


class Choice:
    """One of the n answers: its pieces -> deltas, and in the end the whole of it."""

    def __init__(self, index: int, model: Model, reader: CallReader | None, logprobs: bool) -> None:
        self.index = index
        self._bytes, self._reader = model.tokenizer.piece_bytes, reader
        self._text = ""
        self._calls: list[Call] = []
        self._logprobs: list[dict[str, Any]] | None = [] if logprobs else None
        self._reason = ""

    def take(self, piece: Piece) -> list[dict[str, Any]]:
        """What a stream tells of a piece: choices of chunks. The last one has a finish_reason."""
        deltas = [self._delta(part) for part in parts(self._reader, piece)]
        told = [self._chunk(delta) for delta in deltas]
        if piece.logprobs:
            told = told or [self._chunk({})]
            told[0]["logprobs"] = self._content([self._logprob(entry) for entry in piece.logprobs])
        if piece.finish_reason is not None:
            called = piece.finish_reason == "stop" and self._reader is not None and self._reader.called
            self._reason = "tool_calls" if called else REASONS.get(piece.finish_reason, piece.finish_reason)
            told.append(self._chunk({}, self._reason))
        return told

    def first(self) -> dict[str, Any]:
        """What a stream tells first."""
        return self._chunk({"role": "assistant", "content": ""})

    def whole(self) -> ChatChoice:
        """The whole answer, after its last piece."""
        logprobs = None if self._logprobs is None else {"content": self._logprobs, "refusal": None}
        answer: ChatChoice = {
            "index": self.index,
            "message": {"role": "assistant", "content": self._text, "refusal": None},
            "logprobs": logprobs,
            "finish_reason": self._reason,
        }
        if self._calls:
            answer["message"]["content"] = self._text.strip() or None
            answer["message"]["tool_calls"] = self._calls
        return answer

    def _delta(self, part: Part) -> dict[str, Any]:
        if isinstance(part, str):
            self._text += part
            return {"content": part}
        if part.name:
            function = {"name": part.name, "arguments": part.arguments}
            self._calls.append(
                {"id": part.id, "type": "function",
                 "function": {"name": part.name, "arguments": part.arguments}}
            )  # fmt: skip
            call = {"index": part.index, "id": part.id, "type": "function", "function": function}
        else:
            self._calls[part.index]["function"]["arguments"] += part.arguments
            call = {"index": part.index, "function": {"arguments": part.arguments}}
        return {"tool_calls": [call]}

    def _chunk(self, delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        return {"index": self.index, "delta": delta, "logprobs": None, "finish_reason": reason}

    def _content(self, entries: list[dict[str, Any]]) -> dict[str, Any]:
        if self._logprobs is not None:
            self._logprobs += entries
        return {"content": entries, "refusal": None}

    def _logprob(self, entry: TokenLogprob) -> dict[str, Any]:
        top = [self._token(*alternative) for alternative in entry.top]
        return {**self._token(entry.id, entry.text, entry.logprob), "top_logprobs": top}

    def _token(self, token: int, text: str, logprob: float) -> dict[str, Any]:
        return {"token": text, "bytes": list(self._bytes(token)), "logprob": max(logprob, LOWEST)}


async def _whole(head: dict[str, Any], answering: Answering, choices: list[Choice]) -> dict[str, Any]:
    usages, timings = {}, {}
    async for index, told in answering.events():
        if isinstance(told, Piece):
            choices[index].take(told)
            if told.usage is not None and told.timings is not None:
                usages[index], timings[index] = told.usage, told.timings
    return {
        **head,
        "object": "chat.completion",
        "choices": [choice.whole() for choice in choices],
        "usage": used([usages[index] for index in sorted(usages)]),
        "timings": spent(timings[0]),
    }


async def _events(
    head: dict[str, Any], answering: Answering, choices: list[Choice], asked: ChatRequest
) -> AsyncGenerator[bytes, None]:
    head = {**head, "object": "chat.completion.chunk"}
    usages: dict[int, Usage] = {}
    told = answering.events()
    try:
        for choice in choices:
            yield event({**head, "choices": [choice.first()]})
        async for index, news in told:
            if not isinstance(news, Piece):
                if asked.return_progress:
                    yield event({**head, "choices": [], "prompt_progress": progress(news)})
                continue
            for chunk in choices[index].take(news):
                more = {}
                if chunk["finish_reason"] is not None and news.usage and news.timings:
                    usages[index] = news.usage
                    more = {"timings": spent(news.timings)}
                yield event({**head, "choices": [chunk], **more})
        if asked.stream_options is not None and asked.stream_options.include_usage:
            yield event({**head, "choices": [], "usage": used([usages[i] for i in sorted(usages)])})
    except Exception as fault:
        yield event(failure.openai(*faults.told(fault)))
    finally:
        await told.aclose()
    yield DONE
