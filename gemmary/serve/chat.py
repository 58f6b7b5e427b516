"""POST /v1/chat/completions."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from ..engine.options import Order
from ..engine.reply import Piece, Timings, Usage
from ..engine.sampling import Sampling
from .answering import Answering, begin
from .faults import status
from .sse import DONE, EventStream, event
from .wire import ChatRequest

router = APIRouter()


@router.post("/v1/chat/completions")
async def chat(request: Request, asked: ChatRequest) -> Response:
    """Answer a conversation."""
    models, settings = request.app.state.models, request.app.state.settings
    model = models.find(asked.model)
    prompt = await asyncio.to_thread(model.prompt, asked.messages)
    answering = await begin(model, prompt, _order(asked), asked.user or "")
    head = {
        "id": f"chatcmpl-{secrets.token_hex(12)}",
        "created": int(time.time()),
        "model": asked.model or models.default,
    }
    if asked.stream:
        return EventStream(_events(head, answering, asked), settings.keep_alive, settings.stall)
    reply = await answering.reply()
    choice = {"index": 0, "message": reply.message, "logprobs": None, "finish_reason": reply.finish_reason}
    return JSONResponse(
        {**head, "object": "chat.completion", "choices": [choice], "usage": usage(reply.usage),
         "timings": timings(reply.timings)}
    )  # fmt: skip


def _order(asked: ChatRequest) -> Order:
    sampling = Sampling(
        temperature=asked.temperature, top_k=asked.top_k, top_p=asked.top_p, min_p=asked.min_p,
        seed=secrets.randbits(63) if asked.seed is None else asked.seed,
    )  # fmt: skip
    stop = [asked.stop] if isinstance(asked.stop, str) else asked.stop or []
    return Order(sampling, asked.max_completion_tokens or asked.max_tokens, stop)


async def _events(
    head: dict[str, Any], answering: Answering, asked: ChatRequest
) -> AsyncGenerator[bytes, None]:
    head = {**head, "object": "chat.completion.chunk"}

    def chunk(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        return {**head, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]}

    yield event(chunk({"role": "assistant", "content": ""}))
    pieces = answering.events()
    try:
        async for piece in pieces:
            if not isinstance(piece, Piece):
                continue
            if piece.text:
                yield event(chunk({"content": piece.text}))
            if piece.usage is not None and piece.timings is not None:
                yield event({**chunk({}, piece.finish_reason), "timings": timings(piece.timings)})
                if asked.stream_options is not None and asked.stream_options.include_usage:
                    yield event({**head, "choices": [], "usage": usage(piece.usage)})
    except Exception as fault:
        yield event(status(fault)[1])
    finally:
        await pieces.aclose()
    yield DONE


def usage(used: Usage) -> dict[str, Any]:
    """Token counts as OpenAI's API writes them."""
    return {
        "prompt_tokens": used.prompt_tokens,
        "completion_tokens": used.completion_tokens,
        "total_tokens": used.total_tokens,
        "prompt_tokens_details": {"cached_tokens": used.cached_tokens},
    }


def timings(spent: Timings) -> dict[str, Any]:
    """Seconds and speeds, as llama.cpp's server names them."""
    return {
        "prompt_n": spent.prefill_tokens,
        "prompt_ms": spent.prefill * 1e3,
        "prompt_per_second": spent.prefill_speed,
        "predicted_n": spent.decode_tokens,
        "predicted_ms": spent.decode * 1e3,
        "predicted_per_second": spent.decode_speed,
    }
