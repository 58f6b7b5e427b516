"""Several engines behind Ray Serve, on one machine or many.

    serve run gemmary.serve.replicas:app model=FILE replicas=4

A `Front` takes requests over HTTP and hands them on as values (relay.py); an `Engine` is what `gemmary serve`
starts, without its port. Ray's router asks `Affinity` who answers. Ray is imported here only when it is there
already: by `app`, which Ray calls, and by what it starts.
"""
# Annotations are read by Ray as they are: no `from __future__ import annotations` here.

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from . import failure, faults
from .affinity import Affinity, Chain, chain_of
from .relay import Asked, Head, answer

LARGEST = 64 << 20  # bytes of a body: pictures come in it
SIGNATURE = b"x-engine"  # a header of every answer: which engine gave it
TRIES = 3  # engines that are asked, where they are lost before they have said anything
TOO_LARGE = f"the body is larger than {LARGEST >> 20} MiB: send smaller pictures, or fewer"
LOST = "the engine that answered was lost: ask again"
FULL = "all engines are busy and too many requests wait: ask again later"


class Cluster(BaseModel):
    """What is started. Ray's command line gives strings: numbers are read from them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = Field(default=None, description="A file, a folder or an id; none: the bundled model.")
    name: str = Field(default="gemmary", description="What clients call the model.")
    replicas: int = Field(default=2, ge=1, le=1024, description="Engines.")
    cpus: float = Field(default=1, ge=0, description="Cores that Ray reserves for each engine.")
    threads: int | None = Field(default=None, ge=1, description="Threads of each; none: as many as `cpus`.")
    context: int | None = Field(default=None, ge=1, description="Longest text in tokens.")
    streams: int = Field(default=8, ge=1, le=256, description="Answers that an engine writes together.")
    queue: int = Field(default=64, ge=0, le=65536, description="Requests that may wait at an engine.")
    bound: float = Field(default=1.25, ge=1, description="Times the mean load that an engine may have.")


class Engine:
    """One engine with its model: answers requests that are values."""

    def __init__(self, cluster: Cluster) -> None:
        from ray import serve

        from ..engine.load import load
        from .app import create_app
        from .models import Models
        from .settings import Settings
        from .warming import warm

        threads = cluster.threads or max(int(cluster.cpus), 1)
        model = load(
            cluster.model,
            context=cluster.context,
            threads=threads,
            streams=cluster.streams,
            queue=cluster.queue,
        )
        warm(model, cluster.name)
        self._name = str(serve.get_replica_context().replica_id.unique_id)
        self._model = model
        self._app = create_app(Models({cluster.name: model}), Settings())

    async def answer(self, asked: Asked, chain: Chain) -> AsyncGenerator[Head | bytes, None]:
        """The head of the answer and its body. `chain` is for the router."""
        async with aclosing(answer(self._app, asked)) as pieces:
            async for piece in pieces:
                yield self._signed(piece) if isinstance(piece, Head) else piece

    def _signed(self, head: Head) -> Head:
        return Head(head.status, [*head.headers, (SIGNATURE, self._name.encode())])

    def __del__(self) -> None:
        if (model := getattr(self, "_model", None)) is not None:
            model.close()


class Front:
    """Takes requests over HTTP and passes answers through as they come."""

    def __init__(self, engines: Any) -> None:
        self._engines = engines.options(stream=True)

    async def __call__(self, request: Request) -> Response:
        """Ask the engines. An engine that is lost before it has answered is not the client's business."""
        body = await _body(request)
        if body is None:
            return faults.answer(request.url.path, TOO_LARGE, failure.Kind(413))
        asked = Asked(
            request.method, request.url.path, request.url.query.encode("latin-1"), list(request.headers.raw),
            body, request.client and (request.client.host, request.client.port),
        )  # fmt: skip
        chain = chain_of(body)
        for _ in range(TRIES):
            response = await self._ask(asked, chain)
            if response is not None:
                return response
        return faults.answer(asked.path, LOST, failure.Kind(503, "server_error", "ended"))

    async def _ask(self, asked: Asked, chain: Chain) -> Response | None:
        """The answer of an engine; None if it was lost before there was one."""
        from ray.exceptions import RayActorError
        from ray.serve.exceptions import BackPressureError

        pieces = self._engines.answer.remote(asked, chain)
        try:
            head = await anext(pieces)
        except RayActorError:
            return None
        except BackPressureError:
            return faults.answer(asked.path, FULL, failure.Kind(429, "rate_limit_error", "queue_full"))
        except BaseException:
            pieces.cancel()
            raise
        response = StreamingResponse(_rest(pieces), head.status)
        response.raw_headers = head.headers
        return response


async def _body(request: Request) -> bytes | None:
    """The body; None for one that is too large."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LARGEST:
            return None
    return bytes(body)


async def _rest(pieces: Any) -> AsyncIterator[bytes]:
    """The body of an answer. Who stops reading ends the work."""
    try:
        async for piece in pieces:
            yield piece
    finally:
        pieces.cancel()


def app(cluster: Cluster) -> Any:
    """The application for Ray Serve: `serve run gemmary.serve.replicas:app model=FILE replicas=4`."""
    from ray import serve
    from ray.serve.config import RequestRouterConfig

    router = RequestRouterConfig(
        request_router_class=f"{__name__}.PrefixRouter", request_router_kwargs={"bound": cluster.bound}
    )
    each = cluster.streams + cluster.queue
    engines = serve.deployment(
        Engine,
        num_replicas=cluster.replicas,
        max_ongoing_requests=each,
        max_queued_requests=max(cluster.queue, 1),
        ray_actor_options={"num_cpus": cluster.cpus},
        request_router_config=router,
    ).bind(cluster)
    front = serve.deployment(
        Front, max_ongoing_requests=2 * cluster.replicas * each, ray_actor_options={"num_cpus": 0}
    )
    return front.bind(engines)


def __getattr__(name: str) -> type:
    """`PrefixRouter`, made when Ray looks for it: it derives from a class of Ray's."""
    if name != "PrefixRouter":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _router()


def _router() -> type:
    from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

    class PrefixRouter(RequestRouter):
        """Asks the engine that has read the beginning of a conversation, unless it is overloaded."""

        def initialize_state(self, **kwargs: Any) -> None:
            self._affinity = Affinity(**kwargs)
            self._running: dict[str, str] = {}  # request -> engine

        async def choose_replicas(
            self, candidate_replicas: Sequence[RunningReplica], pending_request: PendingRequest | None = None
        ) -> list[list[RunningReplica]]:
            known = {replica.replica_id.unique_id: replica for replica in candidate_replicas}
            chain = pending_request.args[1] if pending_request and len(pending_request.args) > 1 else ()
            return [[known[name]] for name in self._affinity.rank(chain, known)]

        def on_request_routed(
            self, pending_request: PendingRequest, replica_id: ReplicaID, result: object
        ) -> None:
            self._running[pending_request.metadata.internal_request_id] = replica_id.unique_id
            self._affinity.began(pending_request.args[1], replica_id.unique_id)

        def on_request_completed(self, replica_id: ReplicaID, internal_request_id: str) -> None:
            if (name := self._running.pop(internal_request_id, None)) is not None:
                self._affinity.ended(name)

        def update_replicas(self, replicas: list[RunningReplica]) -> None:
            super().update_replicas(replicas)
            self._affinity.keep({replica.replica_id.unique_id for replica in replicas})

    return PrefixRouter
