"""Requests -> what the engine is asked: order, prompt, who asks."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

from fastapi import Request

from ..engine.model import Model
from ..engine.options import Order
from ..engine.sampling import Sampling
from ..errors import ContextFullError
from ..inputs.dataurl import is_data_url
from ..inputs.prompt import Prompt
from . import squares
from .answering import Caller
from .faults import RefusedError
from .pictures import Pictures
from .wire import Asked

NEVER = -1e6  # a bias that no logit makes up for
# Pictures are decoded one at a time, for up to 30 seconds each, and no thread can be cancelled: so they have
# threads of their own, and keep no text waiting. Two: one squeezes while the other's picture is decoded.
LOOKING = ThreadPoolExecutor(2, "gemmary-pictures")
Source = Callable[[], str | bytes]  # of a picture, when its turn comes


def caller(request: Request, user: str | None, salt: str | None) -> Caller:
    """Who asks: the owner of the key that the guard found (request.state.owner), and its user.

    What is remembered of prompts is shared by the requests of one owner with one salt.
    """
    owner = str(getattr(request.state, "owner", ""))
    key = hashlib.sha256(f"{len(owner)}:{owner}{salt or ''}".encode()).digest() if owner or salt else b""
    return Caller(f"{owner}/{user}" if user else owner, key)


def sampling(asked: Asked, logprobs: int | None, ends: Iterable[int]) -> Sampling:
    """How tokens are drawn; what is not said is as Gemma 3 has it. `ends`: tokens that end an answer."""
    given = {
        "temperature": asked.temperature,
        "top_k": None if asked.top_k is None else max(asked.top_k, 0),
        "top_p": asked.top_p,
        "min_p": asked.min_p,
        "repeat_penalty": asked.repeat_penalty,
        "presence_penalty": asked.presence_penalty,
        "frequency_penalty": asked.frequency_penalty,
        "seed": secrets.randbits(53) if asked.seed is None else asked.seed,
        "logprobs": logprobs,
    }
    bias = {int(token): value for token, value in (asked.logit_bias or {}).items()}
    if asked.ignore_eos:
        bias |= dict.fromkeys(ends, NEVER)
    said: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return Sampling(logit_bias=bias, **said)


def stops(asked: Asked) -> list[str]:
    """The stop strings."""
    return [asked.stop] if isinstance(asked.stop, str) else list(asked.stop or ())


def limited(request: Request, order: Order, said: int | None) -> Order:
    """`order`, held to the longest answer that this server makes. RefusedError where more was asked for."""
    most = request.app.state.settings.max_tokens
    if most is None:
        return order
    refuse(said is not None and said > most, f"at most {most:,} on this server", "max_tokens")
    return replace(order, max_tokens=min(order.max_tokens or most, most))


async def prompt(
    model: Model,
    messages: Sequence[Mapping[str, Any]],
    pictures: Pictures,
    tools: Sequence[Mapping[str, Any]] | None = None,
    pan_and_scan: bool = False,
    tiles: int | None = None,
) -> Prompt:
    """The prompt of a chat. Tokenising and pictures take their time in another thread and process.

    Cancelling it ends it behind the picture that is being read.
    """
    check_length(model, messages)
    count = sum(part["type"] == "image_url" for part in _parts(messages))
    pictures.check_count(count)
    left = threading.Event()
    seen = [await _seen(message, pictures, tiles, left) for message in messages]
    most = squares.room(_parts(seen), model.config.vision, pan_and_scan, model.context)
    make = partial(model.prompt, seen, pan_and_scan=pan_and_scan, tools=tools)
    pool, made = LOOKING if count else None, partial(pictures.squares.made, most, make)
    try:
        return await asyncio.get_running_loop().run_in_executor(pool, made)
    finally:
        left.set()


def check_queue(model: Model) -> None:
    """QueueFullError before anything is done for a request that could not wait."""
    if model.scheduler is not None:
        model.scheduler.check_queue()


def check_length(model: Model, messages: Sequence[Mapping[str, Any]]) -> None:
    """ContextFullError for messages that are far too long, before anything is done with them."""
    check_characters(model, sum(len(text) for message in messages for text in _texts(message)))


def check_characters(model: Model, characters: int) -> None:
    """ContextFullError for more than a context of the longest pieces would hold."""
    if characters // model.tokenizer.longest > model.context:
        raise ContextFullError(
            f"the text has {characters:,} characters, and the context of this model is "
            f"{model.context:,} tokens: shorten it or drop older messages"
        )


def _parts(messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """All parts of messages that come in parts."""
    contents = (message.get("content") for message in messages)
    return [part for content in contents if isinstance(content, list) for part in content]


def _texts(message: Mapping[str, Any]) -> list[str]:
    content = message.get("content") or ""
    return [content] if isinstance(content, str) else [part.get("text") or "" for part in content]


async def _seen(
    message: Mapping[str, Any], pictures: Pictures, tiles: int | None, left: threading.Event
) -> Mapping[str, Any]:
    """The message with pictures that are data: nothing else is ever handed on."""
    if not isinstance(message.get("content"), list):
        return message
    content = [await _part(part, pictures, tiles, left) for part in message["content"]]
    return {**message, "content": content}


async def _part(
    part: Mapping[str, Any], pictures: Pictures, tiles: int | None, left: threading.Event
) -> Mapping[str, Any]:
    if part["type"] != "image_url":
        return part
    url, cut = part["image_url"]["url"], {key: part[key] for key in ("pan_and_scan", "tiles") if key in part}
    if tiles is not None and not cut:
        cut = {"tiles": tiles}
    data = url if is_data_url(url) else await pictures.fetch(url)
    return {"type": "image", "image": _source(data, left), **cut}


def _source(data: str | bytes, left: threading.Event) -> Source:
    """The picture, unless its client has gone when its turn comes."""

    def source() -> str | bytes:
        if left.is_set():
            raise CancelledError
        return data

    return source


def refuse(condition: object, message: str, param: str) -> None:
    """RefusedError where `condition` holds."""
    if condition:
        raise RefusedError(f"{param}: {message}", param)
