"""The models of a server, by name: loaded when somebody asks, unloaded when memory is needed."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextvars import Context
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from ..engine.memory import Estimate, machine_memory
from ..engine.model import Model
from ..errors import GemmaryError
from ..model.pages import Pages
from .accounts import current
from .presence import report
from .warming import warm

T = TypeVar("T")
log = logging.getLogger("gemmary.serve")


class UnknownModelError(GemmaryError):
    """No model of this name is here."""

    def __init__(self) -> None:
        super().__init__("there is no model of this name: GET /v1/models lists those that are here")


class UnavailableError(GemmaryError):
    """The model is here and cannot answer now."""


class BusyError(GemmaryError):
    """The model answers, so it cannot be unloaded."""

    def __init__(self) -> None:
        super().__init__("the model is answering: unload it when its answers have ended")


@dataclass(frozen=True)
class Source:
    """A model that can be loaded. Both functions take their time and run in a thread of their own.

    load: is told how many bytes it may take. estimate: the least that it needs.
    """

    load: Callable[[int], Model]
    estimate: Callable[[], Estimate]


@dataclass(eq=False)
class Place:
    """A model of the server, loaded or not. requests: those that need it now. task: loads it."""

    name: str
    source: Source | None
    model: Model | None = None
    size: Estimate | None = None
    since: float = field(default_factory=time.time)
    used: float = field(default_factory=time.monotonic)
    requests: int = 0
    task: asyncio.Task[Model] | None = None

    @property
    def loading(self) -> bool:
        """Whether it is being loaded, or waits for that."""
        return self.task is not None

    @property
    def busy(self) -> bool:
        """Whether it is needed now."""
        scheduler = None if self.model is None else self.model.scheduler
        return self.requests > 0 or (scheduler is not None and scheduler.running + scheduler.waiting > 0)

    def take(self) -> None:
        """A request needs it."""
        self.requests += 1
        self.used = time.monotonic()

    def give_back(self) -> None:
        """A request needs it no longer."""
        self.requests -= 1
        self.used = time.monotonic()

    def begin(self, work: Coroutine[Any, Any, Model]) -> asyncio.Task[Model]:
        """Load it by `work`, which belongs to no request."""
        self.task = asyncio.create_task(work, context=Context())
        self.task.add_done_callback(self._ended)
        return self.task

    def _ended(self, task: asyncio.Task[Model]) -> None:
        if not task.cancelled():  # one that ended with its loop has a thread that loads on
            task.exception()  # seen: those who asked may have left
            self.task = None


class Models:
    """Models by name. Its methods belong to the event loop, but for `close`."""

    def __init__(
        self,
        models: Mapping[str, Model] | None = None,
        default: str | None = None,
        sources: Mapping[str, Source] | None = None,
        memory: int | None = None,
    ) -> None:
        """`models`: those that are loaded already, with `streams`. `default`: who answers where no model is
        named; None: the first. `memory`: bytes that loaded models may take; None: the machine's.
        """
        loaded = {name: Place(name, None, model) for name, model in (models or {}).items()}
        waiting = {name: Place(name, source) for name, source in (sources or {}).items()}
        self._places = {**loaded, **waiting}
        self._memory = machine_memory() if memory is None else memory
        self._lock = asyncio.Lock()
        self.default = default if default is not None else next(iter(self._places))
        self._place(self.default)

    @property
    def names(self) -> list[str]:
        """Names of all models, the default first."""
        return sorted(self._places, key=lambda name: name != self.default)

    @property
    def loaded(self) -> dict[str, Model]:
        """Those that are loaded."""
        return {place.name: place.model for place in self._places.values() if place.model is not None}

    @property
    def loading(self) -> bool:
        """Whether one is being loaded."""
        return any(place.loading for place in self._places.values())

    def known(self, name: str | None) -> Model | None:
        """The model of this name; None while it is not loaded. UnknownModelError."""
        return self._place(name).model

    async def ready(self, name: str | None) -> Model:
        """The model of this name, loaded if need be; it stays until the request that asks is over.

        UnknownModelError; UnavailableError where it cannot be loaded now.
        """
        place = self._place(name)
        if (account := current()) is not None:  # at once: nobody may unload it before the request goes on
            place.take()
            account.hold(place.name, place.give_back)
        if place.model is not None:
            model = place.model
        else:  # a client that leaves must not take the loading along: its thread could not be stopped
            model = await asyncio.shield(place.task or place.begin(self._loaded(place)))
        place.used = time.monotonic()
        return model

    async def unload(self, name: str) -> None:
        """Free its memory. UnknownModelError; BusyError while it answers."""
        place = self._place(name)
        if place.source is None:
            raise UnavailableError("this model was not loaded by the server, which could not load it again")
        async with self._lock:
            if place.busy:
                raise BusyError
            await self._drop(place)

    def states(self) -> list[dict[str, Any]]:
        """What is known of each, for GET /models."""
        return [_state(self._places[name], name == self.default) for name in self.names]

    def cancel(self) -> None:
        """End all answers: each says that it was ended."""
        for model in self.loaded.values():
            model.cancel()

    def close(self) -> None:
        """Unload all; waits for running steps."""
        for place in self._places.values():
            if place.model is not None:
                place.model.close()

    def _place(self, name: str | None) -> Place:
        place = self._places.get(self.default if name is None else name)
        if place is None:
            raise UnknownModelError
        return place

    async def _loaded(self, place: Place) -> Model:
        async with self._lock:
            return await self._load(place)

    async def _load(self, place: Place) -> Model:
        if place.source is None:
            raise UnavailableError("this model was unloaded")
        try:
            size = await in_thread(place.source.estimate)
            left = await self._make_room(size)
            place.model = model = await in_thread(partial(_warmed, place.source, place.name, left))
        except UnavailableError:
            raise
        except Exception as fault:
            report(fault)
            raise UnavailableError(
                "this model could not be loaded: the log of the server says why"
            ) from fault
        place.size = size if model.scheduler is None else _taken(size, model.scheduler.pages)
        place.since = time.time()
        return model

    async def _make_room(self, size: Estimate) -> int:
        """Unload who was idle longest, until `size` fits; the bytes that are left then."""
        while (held := self._held()) and held + size.total > self._memory:
            idle = [other for other in self._places.values() if _can_go(other)]
            if not idle:
                raise UnavailableError(
                    "other models answer and take the memory: ask again when they have ended"
                )
            await self._drop(min(idle, key=lambda other: other.used))
        return self._memory - held

    def _held(self) -> int:
        """Bytes that loaded models take."""
        return sum(place.size.total for place in self._places.values() if place.model and place.size)

    async def _drop(self, place: Place) -> None:
        model, place.model = place.model, None
        if model is not None:
            await in_thread(model.close)
            log.info("unloaded", extra={"model": place.name})


def _taken(size: Estimate, pages: Pages) -> Estimate:
    """What a loaded model takes: all of its pages, though those that were never used take nothing yet."""
    return replace(size, pages=pages.bytes_total)


def _warmed(source: Source, name: str, memory: int) -> Model:
    started = time.monotonic()
    model = source.load(memory)
    log.info("loaded", extra={"model": name, "seconds": round(time.monotonic() - started, 2)})
    warm(model, name)
    return model


def _can_go(place: Place) -> bool:
    return place.model is not None and place.source is not None and not place.busy


def _state(place: Place, default: bool) -> dict[str, Any]:
    status = "loading" if place.loading else "unloaded" if place.model is None else "loaded"
    state: dict[str, Any] = {"id": place.name, "default": default, "status": {"value": status}}
    if place.model is None or (scheduler := place.model.scheduler) is None:
        return state
    used, total = scheduler.pages.counts
    memory = {
        "weights": place.size.weights if place.size else None,
        "pages_used": scheduler.pages.bytes_used,
        "pages_total": scheduler.pages.bytes_total,
    }
    return state | {
        "since": int(place.since), "idle_seconds": round(time.monotonic() - place.used, 1),
        "context": place.model.context, "memory": memory, "pages": {"used": used, "total": total},
        "running": scheduler.running, "waiting": scheduler.waiting, "streams": scheduler.streams,
    }  # fmt: skip


async def in_thread(work: Callable[[], T]) -> T:
    """What `work` returns, from a thread that does not keep the process alive."""
    loop, future = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()

    def tell(set_: Callable[[Any], None], value: Any) -> None:
        def told() -> None:
            if not future.done():
                set_(value)

        if not loop.is_closed():
            loop.call_soon_threadsafe(told)

    def run() -> None:
        try:
            tell(future.set_result, work())
        except BaseException as fault:
            tell(future.set_exception, fault)

    threading.Thread(target=run, name="gemmary-load", daemon=True).start()
    result: T = await asyncio.shield(future)
    return result


def named(sources: Iterable[str]) -> dict[str, str]:
    """Name -> source: the file's or folder's name, or the id; a number behind it where two are alike."""
    found: dict[str, str] = {}
    for source in sources:
        name = source.rstrip("/").rsplit("/", 1)[-1].removesuffix(".gguf") if _is_path(source) else source
        number = 2
        unique = name
        while unique in found:
            unique, number = f"{name}-{number}", number + 1
        found[unique] = source
    return found


def _is_path(source: str) -> bool:
    return source.endswith(".gguf") or source.startswith(("/", "./", "../", "~"))
