"""The web chat at /: its files, kept in memory, and what it has to know of the server."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request, Response

from .. import __version__
from ..engine.sampling import Sampling
from ..inputs.crops import PanAndScan

FOLDER = Path(__file__).parent / "web"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}
HEADERS = {  # and those of headers.py, that every response has
    "Cache-Control": "no-cache",  # asked for each time, and answered "not modified"
    "Vary": "Accept-Encoding",
}

router = APIRouter()


@dataclass(frozen=True)
class Asset:
    """A file of the page."""

    kind: str
    plain: bytes
    packed: bytes
    tag: str


@cache
def assets() -> dict[str, Asset]:
    """All files by their path below /static."""
    files = (path for path in sorted(FOLDER.rglob("*")) if path.suffix in TYPES)
    return {path.relative_to(FOLDER).as_posix(): _asset(path) for path in files}


def _asset(path: Path) -> Asset:
    plain = path.read_bytes()
    packed = plain if path.suffix == ".woff2" else gzip.compress(plain, 9, mtime=0)
    return Asset(TYPES[path.suffix], plain, packed, f'"{hashlib.sha256(plain).hexdigest()[:24]}"')


@router.get("/", include_in_schema=False)
def index(request: Request) -> Response:
    """The page."""
    return static(request, "index.html")


@router.get("/static/{path:path}", include_in_schema=False)
def static(request: Request, path: str) -> Response:
    """A file of the page."""
    asset = assets().get(path)
    if asset is None:
        raise HTTPException(404, "there is no such file")
    headers = {**HEADERS, "ETag": asset.tag}
    if asset.tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if asset.packed is asset.plain or "gzip" not in request.headers.get("accept-encoding", ""):
        return Response(asset.plain, media_type=asset.kind, headers=headers)
    return Response(asset.packed, media_type=asset.kind, headers={**headers, "Content-Encoding": "gzip"})


@router.get("/api/about")
def about(request: Request) -> dict[str, Any]:
    """What the page has to know before it begins."""
    history, sampling = request.app.state.history, Sampling()
    return {
        "version": __version__,
        "history": history is not None,
        "notice": None if history is None else history.notice,
        "defaults": {
            "temperature": sampling.temperature,
            "top_k": sampling.top_k,
            "top_p": sampling.top_p,
            "min_p": sampling.min_p,
            "max_tokens": None,
            "seed": None,
            "pan_and_scan": False,
        },
    }


@router.get("/api/crops")
def crops(
    width: Annotated[int, Query(ge=1, le=1 << 20)], height: Annotated[int, Query(ge=1, le=1 << 20)]
) -> dict[str, Any]:
    """What pan & scan cuts out of a picture of this size: left, top, right, bottom."""
    return {"boxes": PanAndScan().boxes(width, height)}
