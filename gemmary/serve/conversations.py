"""/api: the conversations of the web chat."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from pydantic import Field

from . import exporting, failure, faults
from .exporting import File, Hash, Id, Said, System, Title, Values
from .history import History
from .historyfile import HistoryError
from .shapes import Faulty
from .wire import Body

MOST_PICTURE = 32 << 20  # bytes
NO_HISTORY = "this server keeps no conversations: start it with a history"
KEEP = {"Cache-Control": "private, max-age=31536000, immutable"}  # a picture's name is its content

REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "model": Faulty}
    for status, text in {
        400: "A field is wrong.", 404: "It is not here.", 409: "The id is taken.",
        413: "The picture is too large.", 500: "The file is damaged.",
        503: "The file cannot be written.", 507: "The disk is full.",
    }.items()
}  # fmt: skip

router = APIRouter(prefix="/api", tags=["Web chat"], responses=REFUSALS)
Place = Annotated[str, Path(pattern=r"^[0-9A-Za-z_-]{4,64}$")]


class New(Body):
    """A conversation that begins."""

    title: Title | None = None
    system: System = ""
    settings: Values = Field(default_factory=dict)


class Changes(Body):
    """What changes; what is not named stays."""

    title: Title | None = None
    system: System | None = None
    settings: Values | None = None
    leaf: Id | None = None


class Branching(Body):
    """Where another conversation begins."""

    message: Id


def history_of(request: Request) -> History:
    """The server's history. HistoryError where it keeps none."""
    history: History | None = request.app.state.history
    if history is None:
        raise HistoryError(NO_HISTORY, 404)
    return history


def owner_of(request: Request) -> str:
    """Whose conversations these are: who guards the server says so; else everybody shares them."""
    return str(getattr(request.state, "owner", ""))


@router.get("/changes")
def changes(request: Request) -> dict[str, int]:
    """A number that grows when any conversation changes."""
    return {"now": history_of(request).now()}


@router.get("/conversations")
def recent(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0, le=1 << 31)] = 0,
) -> dict[str, Any]:
    """Summaries, the latest first."""
    history = history_of(request)
    now = history.now()  # first: what changes meanwhile is asked for again
    return {"now": now, "conversations": history.recent(owner_of(request), limit, offset)}


@router.get("/search")
def search(request: Request, q: Annotated[str, Query(max_length=500)]) -> dict[str, Any]:
    """Conversations in which all words are found."""
    return {"conversations": history_of(request).search(owner_of(request), q)}


@router.post("/conversations", status_code=201)
def create(request: Request, new: New) -> dict[str, Any]:
    """Begin one."""
    return history_of(request).create(owner_of(request), new.title or "", new.system, new.settings)


@router.post("/import", status_code=201)
def bring(request: Request, file: File) -> dict[str, Any]:
    """Conversations of a file that was exported, each under a new id."""
    history, owner = history_of(request), owner_of(request)
    ready = [exporting.from_json(one) for one in file.conversations]
    return {"conversations": [history.take(owner, *one) for one in ready]}


@router.get("/conversations/{id}")
def conversation(request: Request, id: Place) -> dict[str, Any]:
    """One with all its messages."""
    return history_of(request).get(owner_of(request), id)


@router.patch("/conversations/{id}")
def revise(request: Request, id: Place, changes: Changes) -> dict[str, Any]:
    """Rename it, or set its system prompt, settings or leaf."""
    return history_of(request).revise(owner_of(request), id, changes.model_dump(exclude_none=True))


@router.delete("/conversations/{id}", status_code=204)
def forget(request: Request, id: Place) -> None:
    """Delete it."""
    history_of(request).delete(owner_of(request), id)


@router.put("/conversations/{id}/messages/{message}")
def put(request: Request, id: Place, message: Place, said: Said) -> dict[str, Any]:
    """Add a message, or change it. When this has answered, the message is on the disk."""
    return history_of(request).put(owner_of(request), id, {"id": message, **said.model_dump()})


@router.delete("/conversations/{id}/messages/{message}")
def remove(request: Request, id: Place, message: Place) -> dict[str, Any]:
    """Delete a message and what follows it."""
    return history_of(request).remove(owner_of(request), id, message)


@router.post("/conversations/{id}/branch", status_code=201)
def branch(request: Request, id: Place, branching: Branching) -> dict[str, Any]:
    """Another conversation that begins like this one, up to a message."""
    return history_of(request).branch(owner_of(request), id, branching.message)


@router.post(
    "/conversations/{id}/pictures",
    status_code=201,
    responses={415: {"description": "The body is no picture.", "model": Faulty}},
    openapi_extra={"requestBody": {"required": True, "content": {"image/*": {"schema": {
        "type": "string", "format": "binary"}}}}},
)  # fmt: skip
async def add_picture(request: Request, id: Place) -> dict[str, str]:
    """Keep a picture: its bytes are the body."""
    history, data = history_of(request), bytearray()
    async for part in request.stream():
        data += part
        if len(data) > MOST_PICTURE:
            raise HistoryError("the picture is too large: make it smaller", 413)
    kind = exporting.kind_of(bytes(data))
    name = await run_in_threadpool(history.add_picture, owner_of(request), id, kind, bytes(data))
    return {"id": name}


@router.get("/conversations/{id}/pictures/{picture}", responses={200: {"content": {"image/*": {}}}})
def picture(request: Request, id: Place, picture: Annotated[Hash, Path()]) -> Response:
    """A picture."""
    kind, data = history_of(request).picture(owner_of(request), id, picture)
    return Response(data, media_type=kind, headers={**KEEP, "Content-Disposition": "attachment"})


@router.get("/conversations/{id}/export", responses={200: {"content": {"text/markdown": {}}}})
def export(request: Request, id: Place, form: Literal["json", "markdown"] = "json") -> Response:
    """A file: all branches and pictures as JSON, or the branch that is shown as Markdown."""
    history, owner = history_of(request), owner_of(request)
    whole = history.get(owner, id)
    name = exporting.file_name(whole["title"], "md" if form == "markdown" else "json")
    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name)}"}
    if form == "markdown":
        return Response(exporting.as_markdown(whole), media_type="text/markdown", headers=headers)
    file = exporting.as_json(whole, lambda one: history.picture(owner, id, one))
    return JSONResponse(file, headers=headers)


async def refused(request: Request, error: Exception) -> JSONResponse:
    """A HistoryError in the shape of the other errors."""
    status = error.status if isinstance(error, HistoryError) else 500
    kind = failure.INVALID if status < 500 else "server_error"
    return faults.answer(request.url.path, str(error), failure.Kind(status, kind, "history"))
