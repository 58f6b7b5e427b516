"""Whether the client is still there: work for one that has gone is ended."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from typing import Any

from fastapi import HTTPException, Request, Response

from ..errors import GemmaryError

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
CLOSED = 499  # nobody sees it; logs know this number
log = logging.getLogger("gemmary.serve")


class InternalError(GemmaryError):
    """A fault of the server itself."""

    def __init__(self) -> None:
        super().__init__("something went wrong in the server: its log says where")


async def gone(receive: Receive) -> None:
    """Return when the client has gone. What it sends meanwhile is dropped."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def end(task: asyncio.Future[Any]) -> None:
    """Cancel a task and wait until it is over."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()  # seen: nobody else asks


async def attended(request: Request, work: Coroutine[Any, Any, Response]) -> Response:
    """What `work` answers; it is cancelled when the client goes. The body must have been read before."""
    working, watching = asyncio.ensure_future(work), asyncio.ensure_future(gone(request.receive))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else Response(status_code=CLOSED)
    except (GemmaryError, HTTPException):
        raise
    except Exception as fault:
        report(fault)
        raise InternalError from None
    finally:
        await end(working)
        await end(watching)


def report(fault: BaseException) -> None:
    """Log a fault of ours: its kind and where, never its text, which may quote a prompt."""
    places = traceback.extract_tb(fault.__traceback__)
    where = "; ".join(f"{place.filename}:{place.lineno} {place.name}" for place in places[-12:])
    log.error("%s at %s", type(fault).__name__, where)
