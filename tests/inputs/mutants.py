"""Damaged and hostile tokenizer files, and a process that survives them: `python -m tests.inputs.mutants`.

Reads one JSON line from stdin: kind ("model" or "json"), seed (hex of a good file), first, count, limit (MiB
of memory). For each number it damages the file, loads it and uses what was loaded. The answer must be a typed
error, or a tokenizer that gives text back and keeps text away from control tokens.
"""

from __future__ import annotations

import contextlib
import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gemmary.errors import GemmaryError
from gemmary.inputs.tokenizer import Tokenizer
from tests.weights.peak import peak

SAMPLE = "Hi  there\n\n\n<start_of_turn>user<td> 42\t\té 👍🏽 \x00 <eos><unused1> the and ing"
SHARP = (0, 1, 5, 6, 7, 127, 128, 255)
NUMBERS = (0, -1, 1, 3, 105, 2**31, 2**32, 2**63, 2**64, 10**30, True, 0.5, 1e308, -0.0)
JUNK: tuple[Any, ...] = (
    *NUMBERS, None, "", "x", "▁", " ", "\n", "\0", "\ud800", "(a+)+$", "a" * 5000, "<bos>", "<0x41>", "a b",
    [], {}, [[]], {"Regex": "(a+)+$"}, {"String": ""}, {"type": "Sequence"}, ["a", "b"], ["a"], [1, 2],
)  # fmt: skip


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Some bytes flipped, cut, doubled, moved, or replaced by lengths that promise too much."""
    result = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        start = chance.randrange(len(result) + 1)
        size = chance.choice((1, 1, 4, 20, 300))
        act = chance.randrange(7)
        if act == 0 and start < len(result):
            result[start] ^= 1 << chance.randrange(8)
        elif act == 1 and start < len(result):
            result[start] = chance.choice(SHARP)
        elif act == 2:
            del result[start : start + size]
        elif act == 3:
            result[start:start] = result[start : start + size]
        elif act == 4:
            result[start:start] = chance.randbytes(size)
        elif act == 5:
            result[start:start] = b"\xff" * chance.randrange(11) + b"\x01"
        elif chance.random() < 0.2:
            del result[start:]
    return bytes(result)


def rewired(root: Any, chance: random.Random) -> Any:
    """A JSON value with some parts replaced by others that do not belong there."""
    for _ in range(chance.choice((1, 1, 2, 4))):
        place, key = spot(root, chance)
        act = chance.randrange(5)
        if act == 0:
            del place[key]
        elif act == 1 and isinstance(place, list):
            place.insert(key, json.loads(json.dumps(place[chance.randrange(len(place))])))
        elif act == 2 and isinstance(place, dict):
            place[str(chance.choice(JUNK))] = place.pop(key)
        else:
            place[key] = chance.choice((*JUNK, nested(chance.choice((3, 50, 3000)))))
    return root


def spot(root: Any, chance: random.Random) -> tuple[Any, Any]:
    """A random place in a JSON value, the great lists no more often than the small parts."""
    place, key = root, chance.choice(list(root))
    while isinstance(place[key], (dict, list)) and place[key] and chance.random() < 0.8:
        place = place[key]
        key = chance.choice(list(place)) if isinstance(place, dict) else chance.randrange(len(place))
    return place, key


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def mutant(kind: str, seed: bytes, number: int) -> bytes:
    chance = random.Random(f"{kind} {number}")
    if kind == "json" and number % 3:
        with contextlib.suppress(RecursionError):
            return json.dumps(rewired(json.loads(seed), chance)).encode()
    return damaged(seed, chance)


def use(tokenizer: Tokenizer) -> None:
    """Raise unless the tokenizer keeps its promises."""
    ids = tokenizer.encode(SAMPLE)
    if any(tokenizer.is_control(token) for token in ids):
        raise AssertionError("text became a control token")
    if tokenizer.decode(ids) != SAMPLE:
        raise AssertionError(f"text came back as {tokenizer.decode(ids)!r}")


def main() -> None:
    job = json.loads(sys.stdin.readline())
    resource.setrlimit(resource.RLIMIT_AS, (job["limit"] << 20,) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (300, 300))
    seed, counts = bytes.fromhex(job["seed"]), {"refused": 0, "used": 0}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer"
        load: Callable[[Path], Tokenizer] = getattr(Tokenizer, f"from_{job['kind']}")
        for number in range(job["first"], job["first"] + job["count"]):
            print(number, flush=True)  # who dies now is named
            path.write_bytes(mutant(job["kind"], seed, number))
            start = time.process_time()
            try:
                use(load(path))
                counts["used"] += 1
            except GemmaryError:
                counts["refused"] += 1
            if time.process_time() - start > 2:
                raise AssertionError("took more than 2 s")
    print(json.dumps({**counts, "mebibytes": peak() >> 20}))


if __name__ == "__main__":
    main()
