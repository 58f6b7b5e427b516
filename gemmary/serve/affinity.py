"""Which of several engines answers a request: the one that has read its beginning, unless it is overloaded.

A conversation is known by a chain of SHA-256 over blocks of its text: digest i stands for its first i + 1
blocks, as in the engine's own cache (engine/prefix.py). Whoever answered a text with the longest common
beginning is asked again. A bound on loads (Mirrokni, Thorup and Zadimoghaddam, "Consistent Hashing with
Bounded Loads", 2016) keeps a beginning that everybody shares from sending everybody to one engine: what is
above it goes to the engine with the least to do, which then has read that beginning too.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

BLOCK = 256  # characters: some 64 tokens
BLOCKS = 128  # of a text; two that agree so far are taken for the same
Chain = Sequence[bytes]


def chain_of(body: bytes) -> list[bytes]:
    """Digests of the beginnings of the conversation, or prompt, in the JSON of a request.

    Nothing for a body that is no JSON object, and for texts shorter than a block.
    """
    try:
        asked = json.loads(body)
        return _chain(asked) if isinstance(asked, dict) else []
    except (ValueError, RecursionError):
        return []


def _chain(asked: Mapping[str, Any]) -> list[bytes]:
    told = json.dumps([asked.get("model"), asked.get("cache_salt")], sort_keys=True)
    digest, chain = hashlib.sha256(told.encode()).digest(), []
    for block in _blocks(_texts(asked)):
        digest = hashlib.sha256(digest + block.encode("utf-8", "surrogatepass")).digest()
        chain.append(digest)
    return chain


def _texts(asked: Mapping[str, Any]) -> Iterator[str]:
    """What the prompt is made of, in its order."""
    for field in ("tools", "system", "prompt"):
        if asked.get(field):
            yield _text(asked[field])
    messages = asked.get("messages")
    for message in messages if isinstance(messages, list) else ():
        role, content = (
            (message.get("role"), message.get("content")) if isinstance(message, dict) else (message, "")
        )
        yield f"<{role}>"
        for part in content if isinstance(content, list) else [content]:
            yield _text(part)


def _text(part: Any) -> str:
    """A part of a prompt: text as it is, ids and tools as JSON, a picture by its digest: it has megabytes."""
    if isinstance(part, dict) and isinstance(part.get("text"), str):
        part = part["text"]
    if isinstance(part, str):
        return part
    told = json.dumps(part, sort_keys=True)
    return told if isinstance(part, list) else hashlib.sha256(told.encode()).hexdigest()


def _blocks(texts: Iterable[str]) -> Iterator[str]:
    """Whole blocks of the texts put together, as many as count."""
    rest, left = "", BLOCKS
    for text in texts:
        rest += text[: left * BLOCK]
        while len(rest) >= BLOCK and left:
            yield rest[:BLOCK]
            rest, left = rest[BLOCK:], left - 1


class Affinity:
    """Remembers who has read what, and how much everybody has to do. Not for several threads."""

    def __init__(self, bound: float = 1.25, spare: int = 2, limit: int = 1 << 18) -> None:
        """`bound`: an engine may have so many times the mean load before others are asked, and `spare`
        requests in any case. `limit`: digests that are remembered; the least recently used goes first.
        """
        self._bound, self._spare, self._limit = bound, spare, limit
        self._readers: OrderedDict[bytes, dict[str, None]] = OrderedDict()
        self._load: Counter[str] = Counter()
        self._answered: Counter[str] = Counter()

    def load(self, name: str) -> int:
        """Requests that an engine is answering."""
        return self._load[name]

    def rank(self, chain: Chain, names: Iterable[str]) -> list[str]:
        """The engines of `names`, the best one for this text first; then those with the least to do."""
        idlest = sorted(names, key=lambda name: (self._load[name], self._answered[name], name))
        reader = self._reader(chain, idlest)
        return idlest if reader is None else [reader, *(name for name in idlest if name != reader)]

    def began(self, chain: Chain, name: str) -> None:
        """An engine has got the request of this text."""
        self._load[name] += 1
        self._answered[name] += 1
        for digest in chain:
            self._readers.setdefault(digest, {})[name] = None
            self._readers.move_to_end(digest)
        while len(self._readers) > self._limit:
            self._readers.popitem(last=False)

    def ended(self, name: str) -> None:
        """It has answered one, or failed to."""
        self._load[name] = max(self._load[name] - 1, 0)

    def keep(self, names: Collection[str]) -> None:
        """Forget the engines that are not among `names`: they are gone, and with them what they had read."""
        for name in set(self._answered) - set(names):
            del self._load[name], self._answered[name]
            for digest in [digest for digest, readers in self._readers.items() if name in readers]:
                del self._readers[digest][name]
                if not self._readers[digest]:
                    del self._readers[digest]

    def _reader(self, chain: Chain, idlest: Sequence[str]) -> str | None:
        """Who has read the longest beginning and has room; of several the idlest."""
        total = sum(self._load[name] for name in idlest)
        most = max(math.ceil(self._bound * (total + 1) / max(len(idlest), 1)), self._spare)
        free = [name for name in idlest if self._load[name] < most]
        for digest in reversed(chain):
            readers = self._readers.get(digest, {})
            if (found := next((name for name in free if name in readers), None)) is not None:
                return found
        return None
