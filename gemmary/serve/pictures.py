"""Pictures that a message names by a URL: fetched only if the server was told to, and only from outside.

A server that fetches what strangers name can be made to read what only it can reach. So: http and https, each
on its own port; the URL is read once, by a strict pattern, and a host that is not plain is refused; it is
resolved once, every address of it must be public, and that address is connected to; no redirects, no proxies;
limits for time and size. What goes wrong is told in fixed sentences that do not say what was found.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import h11

from ..errors import PromptError
from ..inputs.dataurl import MAX_BYTES
from .squares import Squares

OFF = (
    "this server fetches no pictures: send them as data URLs, such as data:image/png;base64,iVBORw0..., in "
    "image_url"
)
REFUSED = "the picture's URL is refused: it must be http or https, of a public host, without a password"
FAILED = "the picture could not be fetched from its URL"
SECONDS = 5.0
HEADER_BYTES = 16 << 10
# A name server that does not answer holds a thread for longer than a fetch may take: one of these only.
NAMES = ThreadPoolExecutor(4, "gemmary-names")
URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9a-f:.]{2,45}\]|[a-z0-9.-]{1,253})(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<target>/[!$-;=?-Z_a-z~%]*)?(?:\?(?P<query>[!$-;=?-Z_a-z~%]*))?(?:#[!$-;=?-Z_a-z~%]*)?",
    re.IGNORECASE | re.ASCII,
)
LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)", re.IGNORECASE | re.ASCII)
PORTS = {"http": 80, "https": 443}
# Public by their number, but they carry or lead to an IPv4 address that need not be.
LEADING = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32",
                                           "192.88.99.0/24", "::/96", "fec0::/10")))  # fmt: skip

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class RemoteError(PromptError):
    """A picture that is not fetched, or could not be."""


@dataclass(frozen=True)
class Place:
    """Where a URL points."""

    scheme: str
    host: str
    port: int
    target: str


def place_of(url: str) -> Place:
    """The parts of a URL. RemoteError unless it is plain."""
    found = URL.fullmatch(url) if len(url) <= 2048 else None
    if found is None:
        raise RemoteError(REFUSED)
    scheme, host = found["scheme"].lower(), found["host"].lower()
    port = int(found["port"]) if found["port"] else PORTS[scheme]
    if not _plain(host):
        raise RemoteError(REFUSED)
    query = "" if found["query"] is None else f"?{found['query']}"
    return Place(scheme, host.strip("[]"), port, (found["target"] or "/") + query)


def _plain(host: str) -> bool:
    """Whether a host is a name with dots in it, or an address in its usual form."""
    if host.startswith("["):
        return _address(host[1:-1]) is not None
    labels = host.split(".")
    if labels[-1].isdigit() or labels[-1].startswith("0x"):  # a number: only 1.2.3.4 is read alike everywhere
        return _address(host) is not None
    return len(labels) > 1 and all(LABEL.fullmatch(label) for label in labels)


def _address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def public(text: str) -> bool:
    """Whether an address belongs to the outside world."""
    address = _address(text)
    if address is None:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return False
    if any(address.version == network.version and address in network for network in LEADING):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


async def resolved(host: str, port: int) -> Sequence[str]:
    """The addresses of a host, as the system knows them."""
    ask = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    found = await asyncio.get_running_loop().run_in_executor(NAMES, ask)
    return [str(entry[4][0]) for entry in found]


class Pictures:
    """Fetches pictures by URL, if it is allowed to."""

    def __init__(
        self,
        allowed: bool = False,
        hosts: Collection[str] = (),
        resolve: Resolve = resolved,
        ports: Collection[int] = tuple(PORTS.values()),
        reachable: Callable[[str], bool] = public,
        most: int = 16,
        memory: int = 1 << 30,
    ) -> None:
        """`hosts`: the only ones to be asked; none: any. `most`: in a request. `memory`: see Squares.

        The others are for tests.
        """
        self._most = most
        self.squares = Squares(memory)
        self._allowed, self._hosts, self._ports = allowed, frozenset(hosts), frozenset(ports)
        self._resolve, self._reachable = resolve, reachable

    def check_count(self, count: int) -> None:
        """PromptError for more pictures than a request may have."""
        if count > self._most:
            raise PromptError(
                f"messages: {count:,} pictures, and this server takes {self._most:,} in a request"
            )

    async def fetch(self, url: str) -> bytes:
        """The bytes behind a URL. RemoteError, with a sentence that does not tell what is there."""
        if not self._allowed:
            raise RemoteError(OFF)
        place = place_of(url)
        if place.port not in self._ports or (self._hosts and place.host not in self._hosts):
            raise RemoteError(REFUSED)
        try:
            async with asyncio.timeout(SECONDS):
                return await self._get(place)
        except (OSError, TimeoutError, UnicodeError, h11.ProtocolError):
            raise RemoteError(FAILED) from None

    async def _get(self, place: Place) -> bytes:
        addresses = await self._resolve(place.host, place.port)
        if not addresses or not all(map(self._reachable, addresses)):
            raise RemoteError(REFUSED)
        secure = ssl.create_default_context() if place.scheme == "https" else None
        name = place.host if secure else None
        reader, writer = await asyncio.open_connection(
            addresses[0], place.port, ssl=secure, server_hostname=name, limit=1 << 16
        )
        try:
            return await _asked(reader, writer, place)
        finally:
            writer.transport.abort()


async def _asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, place: Place) -> bytes:
    """The body of the answer to one GET; a redirect is no answer."""
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEADER_BYTES)
    host = f"[{place.host}]" if ":" in place.host else place.host
    named = host if place.port == PORTS[place.scheme] else f"{host}:{place.port}"
    headers = [("Host", named), ("Accept", "image/*"), ("Accept-Encoding", "identity"),
               ("Connection", "close")]  # fmt: skip
    writer.write(http.send(h11.Request(method="GET", target=place.target, headers=headers)) or b"")
    http.send(h11.EndOfMessage())
    body = bytearray()
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(await reader.read(1 << 16))
        elif isinstance(event, h11.Response) and event.status_code != 200:
            raise RemoteError(FAILED)
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > MAX_BYTES:
                raise RemoteError(FAILED)
        elif isinstance(event, h11.EndOfMessage):
            return bytes(body)
        elif isinstance(event, h11.ConnectionClosed):
            raise RemoteError(FAILED)
