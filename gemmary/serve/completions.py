"""POST /v1/completions: text goes on, without a chat template."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from ..engine.model import Model, Words
from ..engine.options import Order
from ..engine.reply import Piece, TokenLogprob, Usage
from . import asking, failure, faults
from .answering import Answering, orders
from .chat import LOWEST, REASONS
from .presence import attended
from .shapes import TextAnswer, TextChoice, progress, spent, used
from .sse import DONE, EventStream, event
from .wire import MOST_CHOICES, CompletionRequest

router = APIRouter(tags=["OpenAI"])
LONGEST = 16  # tokens, where nothing is said: as in OpenAI's API


@router.post(
    "/v1/completions",
    response_model=TextAnswer,
    responses=faults.documented({200: {"content": {"text/event-stream": {}}}}),
)
async def completions(request: Request, asked: CompletionRequest) -> Response:
    """Continue a text, ids, or several of them. With `stream`, as events that end with [DONE]."""
    return await attended(request, _complete(request, asked))


async def _complete(request: Request, asked: CompletionRequest) -> Response:
    state = request.app.state
    model: Model = await state.models.ready(asked.model)
    asking.check_queue(model)
    prompts, n = _prompts(asked), asked.n or 1
    asking.refuse(len(prompts) * n > MOST_CHOICES, f"more than {MOST_CHOICES} answers at once", "n")
    asking.refuse(asked.echo and asked.logprobs is not None, "does not go together with logprobs", "echo")
    sampling = asking.sampling(asked, asked.logprobs, model.tokenizer.stops)
    order = Order(sampling, asked.max_tokens or LONGEST, asking.stops(asked))
    order = asking.limited(request, order, asked.max_tokens)
    caller = asking.caller(request, asked.user, asked.cache_salt)
    answering = await Answering.begin(model, prompts, orders(order, n), caller)
    choices = [
        Choice(i * n + j, _echo(model, prompt) if asked.echo else "", asked.logprobs is not None)
        for i, prompt in enumerate(prompts)
        for j in range(n)
    ]
    head = {
        "id": f"cmpl-{secrets.token_hex(12)}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": asked.model or state.models.default,
    }
    if asked.stream:
        events = _events(head, answering, choices, asked, len(prompts))
        return EventStream(events, answering.cancel, state.settings.keep_alive, state.settings.stall)
    return JSONResponse(await _whole(head, answering, choices, len(prompts)))


def _prompts(asked: CompletionRequest) -> list[Words]:
    """What is to be continued: one text or list of ids, or several."""
    given = asked.prompt
    if isinstance(given, str) or isinstance(given[0], int):
        return [given]
    return list(given)


def _echo(model: Model, prompt: Words) -> str:
    return prompt if isinstance(prompt, str) else model.tokenizer.decode(prompt)  # type: ignore[arg-type]


class Choice:
    """One of the continuations: its pieces -> choices of chunks, and in the end the whole of it."""

    def __init__(self, index: int, echo: str, logprobs: bool) -> None:
        self._index, self._text, self._reason = index, echo, ""
        self._echo = echo
        self._entries: list[TokenLogprob] | None = [] if logprobs else None
        self._offset = 0  # of the next token in the text

    def take(self, piece: Piece) -> list[TextChoice]:
        """What a stream tells of a piece."""
        self._text += piece.text
        reason = piece.finish_reason
        self._reason = REASONS.get(reason, reason) if reason is not None else ""
        entries = list(piece.logprobs or ())
        if self._entries is not None:
            self._entries += entries
        if not piece.text and not entries and reason is None:
            return []
        text, self._echo = self._echo + piece.text, ""
        return [self._choice(text, entries)]

    def whole(self) -> TextChoice:
        """The whole, after its last piece."""
        self._offset = 0
        return self._choice(self._text, self._entries or [])

    def _choice(self, text: str, entries: list[TokenLogprob]) -> TextChoice:
        logprobs = None if self._entries is None else self._logprobs(entries)
        return {"index": self._index, "text": text, "logprobs": logprobs,
                "finish_reason": self._reason or None}  # type: ignore[typeddict-item]  # fmt: skip

    def _logprobs(self, entries: list[TokenLogprob]) -> dict[str, Any]:
        offsets = []
        for entry in entries:
            offsets.append(self._offset)
            self._offset += len(entry.text)
        return {
            "tokens": [entry.text for entry in entries],
            "token_logprobs": [max(entry.logprob, LOWEST) for entry in entries],
            "top_logprobs": [{text: max(value, LOWEST) for _, text, value in entry.top} for entry in entries],
            "text_offset": offsets,
        }


async def _whole(
    head: dict[str, Any], answering: Answering, choices: list[Choice], prompts: int
) -> dict[str, Any]:
    usages, timings = {}, {}
    async for index, told in answering.events():
        if isinstance(told, Piece):
            choices[index].take(told)
            if told.usage is not None and told.timings is not None:
                usages[index], timings[index] = told.usage, told.timings
    return {
        **head,
        "choices": [choice.whole() for choice in choices],
        "usage": used([usages[index] for index in sorted(usages)], prompts),
        "timings": spent(timings[0]),
    }


async def _events(
    head: dict[str, Any], answering: Answering, choices: list[Choice], asked: CompletionRequest, prompts: int
) -> AsyncGenerator[bytes, None]:
    usages: dict[int, Usage] = {}
    told = answering.events()
    try:
        async for index, news in told:
            if not isinstance(news, Piece):
                if asked.return_progress:
                    yield event({**head, "choices": [], "prompt_progress": progress(news)})
                continue
            more = {}
            if news.usage is not None and news.timings is not None:
                usages[index] = news.usage
                more = {"timings": spent(news.timings)}
            for choice in choices[index].take(news):
                yield event({**head, "choices": [choice], **more})
        if asked.stream_options is not None and asked.stream_options.include_usage:
            total = used([usages[i] for i in sorted(usages)], prompts)
            yield event({**head, "choices": [], "usage": total})
    except Exception as fault:
        yield event(failure.openai(*faults.told(fault)))
    finally:
        await told.aclose()
    yield DONE
