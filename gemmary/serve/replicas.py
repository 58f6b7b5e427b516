"""Several engines behind Ray Serve, on one machine or many.

    GEMMARY_API_KEY_FILE=KEYS serve run gemmary.serve.replicas:app model=FILE replicas=4

A `Front` takes requests over HTTP and hands them on as values (relay.py); an `Engine` is what `gemmary serve`
starts, without its port. Both ask for the key: the front before it reads a body, the engine as ever. Ray's
router asks `Affinity` who answers. Ray is imported here only when it is there already: by `app`, which Ray
calls, and by what it starts.
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
from .asgi import App, Receive, Scope, Send
from .bodies import Bodies
from .guard import NO_KEY, READING, Keys
from .headers import secured
from .refusal import refuse
from .relay import Asked, Head, answer
from .settings import Settings, SettingsError, read

EVERYWHERE = "0.0.0.0"  # where Ray listens is its own setting: others may reach it
OPEN = (
    "a cluster can be reached from other machines: say who may ask with GEMMARY_API_KEY_FILE=FILE in the "
    "environment of Ray's processes, or let everybody with GEMMARY_NO_KEY=true"
)
SIGNATURE = b"x-engine"  # a header of every answer: which engine gave it
TRIES = 3  # engines that are asked, where they are lost before they have said anything
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


def cluster_settings() -> Settings:
    """What GEMMARY_* in the environment say. SettingsError where it is wrong, or says not who may ask."""
    settings = read()
    if not (settings.keys or settings.no_key):
        raise SettingsError(OPEN)
    return settings.model_copy(update={"host": EVERYWHERE})


class Engine:
    """One engine with its model: answers requests that are values."""

    def __init__(self, cluster: Cluster) -> None:
        from ray import serve

        from ..engine.load import load
        from .app import create_app
        from .models import Models
        from .warming import warm

        settings = cluster_settings()
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
        self._app = create_app(Models({cluster.name: model}), settings)

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
        settings = cluster_settings()
        self._engines = engines.options(stream=True)
        self._keys = Keys(settings.keys)
        self._bodies = Bodies(self._relay, settings)

    async def __call__(self, request: Request) -> Response:
        """Ray gives a request, and sends what is returned."""
        return Late(secured(self._admit))

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Nothing is read of a body that comes without the key."""
        if not self._keys or self._keys.owner(scope) is not None:
            await self._bodies(scope, receive, send)
        elif scope["method"] in READING:  # what is open is the engine's to know
            await self._answer(scope, b"", receive, send)
        else:
            await refuse(NO_KEY, scope, receive, send)

    async def _relay(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._answer(scope, (await receive()).get("body", b""), receive, send)

    async def _answer(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        response = await self._response(Request(scope), body)
        await response(scope, receive, send)

    async def _response(self, request: Request, body: bytes) -> Response:
        """Ask the engines. An engine that is lost before it has answered is not the client's business."""
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


class Late(Response):
    """An answer that an application gives when it is sent."""

    def __init__(self, app: App) -> None:
        super().__init__()
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let it answer."""
        await self._app(scope, receive, send)


async def _rest(pieces: Any) -> AsyncIterator[bytes]:
    """The body of an answer. Who stops reading ends the work."""
    try:
        async for piece in pieces:
            yield piece
    finally:
        pieces.cancel()


def app(cluster: Cluster) -> Any:
    """The application for Ray Serve: `serve run gemmary.serve.replicas:app model=FILE replicas=4`.

    SettingsError before anything is started.
    """
    cluster_settings()
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
