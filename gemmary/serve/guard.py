"""Who may ask what. Everything is refused that is not allowed.

Decided on the path alone, never on what a client calls the server. A browser that was led here by a name of
somebody else (DNS rebinding), or that sends what another page made up (cross-site requests), is refused by
Host, Origin, Sec-Fetch-Site and Content-Type; see docs/operate.md.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import socket
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager

from .asgi import App, Message, Receive, Scope, Send, values
from .refusal import Header, Refusal, TurnedAwayError, busy, refuse
from .settings import Settings

HEALTH = "/health"
METRICS = "/metrics"
MOST_HEADERS = 100
HOST = re.compile(r"(\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})(?::[0-9]{1,5})?", re.IGNORECASE | re.ASCII)
TYPES = re.compile(r"(application/json|image/[a-z0-9.+-]+)\s*(;.*)?", re.IGNORECASE)
READING = ("GET", "HEAD")
BEARER = "bearer "

NO_HOST = Refusal(400, "the request needs one Host header", "host")
FOREIGN_HOST = Refusal(
    403, "this server is not called so: add the name with gemmary serve --hosts NAME, if it is yours", "host"
)
FOREIGN_ORIGIN = Refusal(
    403, "pages of another origin may not ask: add it with gemmary serve --origins, if it is yours", "origin"
)
NO_KEY = Refusal(
    401, "this server asks for a key: send Authorization: Bearer KEY", "invalid_api_key",
    ((b"www-authenticate", b"Bearer"),),
)  # fmt: skip
NO_JSON = Refusal(415, "the body must be JSON: send Content-Type: application/json", "content_type")
HEADERS = Refusal(431, f"the request has more than {MOST_HEADERS} headers", "headers")
SHARE = busy(429, "this key has as many requests at once as it may: ask again when one has ended", "requests")
STATES = {
    "loading": busy(503, "the model is being loaded: ask again in a while", "loading", 5),
    "stopping": busy(503, "the server stops: ask again in a while", "stopping", 5),
    "hung": busy(503, "the engine does not answer: ask again in a while", "hung", 30),
}


class Keys:
    """The keys that are let in. None: everybody is."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._known = [(hashlib.sha256(key.encode()).digest(), owner_of(key)) for key in keys]

    def __bool__(self) -> bool:
        return bool(self._known)

    def owner(self, scope: Scope) -> str | None:
        """Whose key a request has; None: nobody's. Takes the same time for every wrong key."""
        given = [*map(_bearer, values(scope, b"authorization")), *values(scope, b"x-api-key")]
        if len(set(given)) != 1:
            return None
        digest = hashlib.sha256(given[0].encode()).digest()
        found = [owner for known, owner in self._known if hmac.compare_digest(digest, known)]
        return found[0] if found else None


def owner_of(key: str) -> str:
    """A name for who has a key, the same after a restart. It does not help to guess the key."""
    return hashlib.scrypt(key.encode(), salt=b"gemmary owner", n=1 << 12, r=8, p=1, dklen=6).hex()


def _bearer(value: str) -> str:
    return value[len(BEARER) :].strip() if value[: len(BEARER)].lower() == BEARER else ""


class Hosts:
    """What this server is called.

    A server of this machine alone: localhost and loopback addresses. One that others reach: its machine's
    name and any address too, for a name can be made to point here and an address cannot.
    """

    def __init__(self, bound: str, loopback: bool, names: Iterable[str]) -> None:
        own = [] if loopback else [socket.gethostname().lower()]
        self._names = {"localhost", bound.lower(), *own, *(name.lower() for name in names)}
        self._loopback = loopback

    def allows(self, host: str) -> bool:
        """Whether `host`, a name or address with or without a port, is this server."""
        found = HOST.fullmatch(host)
        if found is None:
            return False
        name = found[1].lower()
        try:
            address = ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return name in self._names
        return not self._loopback or address.is_loopback or name.strip("[]") in self._names


class Guard:
    """Lets in who may ask; the application behind it finds the owner of the key in request.state.owner."""

    def __init__(
        self,
        app: App,
        settings: Settings,
        state: Callable[[], str] = lambda: "ok",
        open_paths: Collection[str] = (),
    ) -> None:
        """`state`: "ok", or one of `STATES`. `open_paths`: files without data; they need no key."""
        self._app, self._state = app, state
        self._keys = Keys(settings.keys)
        self._hosts = Hosts(settings.host, settings.loopback, settings.hosts)
        self._origins = frozenset(origin.lower() for origin in settings.origins)
        self._files = frozenset(open_paths)
        self._share, self._busy = settings.requests_per_key, Counter[str]()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # no web sockets
        try:
            origin = self._check_browser(scope)
            if origin is not None:
                send = _readable_by(origin, send)
                if scope["method"] == "OPTIONS":
                    await _preflight(send)
                    return
            owner = self._check_key(scope)
            self._check_state(scope)
            _check_type(scope)
            with self._counted(owner or _address(scope), scope):
                scope.setdefault("state", {})["owner"] = owner
                await self._app(scope, receive, send)
        except TurnedAwayError as fault:
            await refuse(fault.refusal, scope, receive, send)

    def _check_browser(self, scope: Scope) -> str | None:
        """The other origin that asks and may; None: nobody's, or our own."""
        if len(scope["headers"]) > MOST_HEADERS:
            raise TurnedAwayError(HEADERS)
        hosts = values(scope, b"host")
        if len(hosts) != 1:
            raise TurnedAwayError(NO_HOST)
        if not self._hosts.allows(hosts[0]):
            raise TurnedAwayError(FOREIGN_HOST)
        origins, sites = values(scope, b"origin"), values(scope, b"sec-fetch-site")
        if len(origins) == 1 and origins[0].lower() in self._origins:
            return origins[0]
        own = {f"{scheme}://{hosts[0].lower()}" for scheme in ("http", "https")}
        if any(origin.lower() not in own for origin in origins):
            raise TurnedAwayError(FOREIGN_ORIGIN)
        if not self._is_file(scope) and any(site not in ("same-origin", "none") for site in sites):
            raise TurnedAwayError(FOREIGN_ORIGIN)
        return None

    def _is_file(self, scope: Scope) -> bool:
        return scope["path"] in self._files and scope["method"] in READING

    def _check_key(self, scope: Scope) -> str:
        if not self._keys:
            return ""
        owner = self._keys.owner(scope)
        if owner is not None:
            return owner
        if self._is_file(scope) or (scope["path"] == HEALTH and scope["method"] in READING):
            return ""
        raise TurnedAwayError(NO_KEY)

    def _check_state(self, scope: Scope) -> None:
        refusal = STATES.get(self._state())
        if refusal is not None and not self._is_file(scope) and scope["path"] not in (HEALTH, METRICS):
            raise TurnedAwayError(refusal)

    @contextmanager
    def _counted(self, who: str, scope: Scope) -> Iterator[None]:
        if scope["method"] in READING:
            yield
            return
        if self._share is not None and self._busy[who] >= self._share:
            raise TurnedAwayError(SHARE)
        self._busy[who] += 1
        try:
            yield
        finally:
            self._busy[who] -= 1
            if not self._busy[who]:
                del self._busy[who]


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""


def _check_type(scope: Scope) -> None:
    """What changes something is JSON or a picture: a form of another page can send neither."""
    if scope["method"] in (*READING, "DELETE", "OPTIONS"):
        return
    kinds = values(scope, b"content-type")
    if len(kinds) != 1 or not TYPES.fullmatch(kinds[0].strip()):
        raise TurnedAwayError(NO_JSON)


def _readable_by(origin: str, send: Send) -> Send:
    """Let pages of `origin` read the answer."""
    more: list[Header] = [(b"access-control-allow-origin", origin.encode("latin-1")), (b"vary", b"Origin")]

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *more]}
        await send(message)

    return sending


async def _preflight(send: Send) -> None:
    allowed = [
        (b"access-control-allow-methods", b"GET, POST, PUT, PATCH, DELETE"),
        (b"access-control-allow-headers", b"authorization, content-type, x-api-key, anthropic-version"),
        (b"access-control-max-age", b"600"),
    ]
    await send({"type": "http.response.start", "status": 204, "headers": allowed})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
