"""POST /tokenize and /detokenize: text <-> ids."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from ..engine.model import Model
from . import asking, faults
from .presence import attended
from .shapes import Detokenized, Tokenized
from .wire import DetokenizeRequest, TokenizeRequest

router = APIRouter(tags=["Tokens"])


@router.post("/tokenize", response_model=Tokenized, responses=faults.documented())
async def tokenize(request: Request, asked: TokenizeRequest) -> Response:
    """The ids of a text (`prompt`, or `content`), or of the prompt that messages become."""
    return await attended(request, _tokenize(request, asked))


@router.post("/detokenize", response_model=Detokenized, responses=faults.documented())
async def detokenize(request: Request, asked: DetokenizeRequest) -> Response:
    """The text of ids; control tokens give none."""
    return await attended(request, _detokenize(request, asked))


async def _tokenize(request: Request, asked: TokenizeRequest) -> Response:
    state = request.app.state
    model: Model = await state.models.ready(asked.model)
    text = asked.prompt if asked.prompt is not None else asked.content
    given = [name for name in ("prompt", "content", "messages") if getattr(asked, name) is not None]
    asking.refuse(len(given) != 1, "give one of prompt, content and messages", "prompt")
    asking.refuse(asked.tools and text is not None, "belongs to messages", "tools")
    if text is None:
        messages = [message.model_dump(exclude_none=True) for message in asked.messages or ()]
        tools = [tool.model_dump(exclude_none=True) for tool in asked.tools or ()]
        ids = (await asking.prompt(model, messages, state.pictures, tools or None)).ids
        return await asyncio.to_thread(_tokenized, model, ids, asked)
    asking.check_characters(model, len(text))
    return await asyncio.to_thread(_encoded, model, text, asked)


async def _detokenize(request: Request, asked: DetokenizeRequest) -> Response:
    model: Model = await request.app.state.models.ready(asked.model)
    return await asyncio.to_thread(_decoded, model, asked.tokens)


# In threads: an answer of many tokens takes a while to write, too.
def _encoded(model: Model, text: str, asked: TokenizeRequest) -> Response:
    ids, bos = model.tokenizer.encode(text), model.tokenizer.bos
    front = [bos] if asked.add_special_tokens is not False and bos is not None else []
    return _tokenized(model, [*front, *ids], asked)


def _tokenized(model: Model, ids: list[int], asked: TokenizeRequest) -> Response:
    answer: Tokenized = {"tokens": ids, "count": len(ids), "max_model_len": model.context}
    if asked.return_token_strs:
        answer["token_strs"] = [
            model.tokenizer.piece_bytes(token).decode("utf-8", "replace") for token in ids
        ]
    return JSONResponse(answer)


def _decoded(model: Model, ids: list[int]) -> Response:
    text = model.tokenizer.decode(ids)
    return JSONResponse({"prompt": text, "content": text})
