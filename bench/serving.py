"""Servers under load: `gemmary serve` beside llama.cpp's own `llama-server -np 8 -cb`, in the same run.

    GEMMARY_LLAMA_SERVER=llama-server python bench/serving.py [270m 1b] [--file FILE] [--rounds 5]

Both servers run all the time, with the same file; the one that is not asked is paused. Three tables:

load    N streams of 64 tokens behind prompts of 64 and of 512 random ids, and one stream alone. Tokens a
        second of all streams, from the requests to the last token, so reading is in it ("all"), and while all
        of them write ("writing"; 0 where the first ends before the last begins); seconds to the first token
        and between tokens. Each round has new prompts, the same for both servers.
turns   the second turn of a conversation of 4,000 tokens: seconds to its first token by appending, after an
        earlier message was edited, and after a regenerate, in percent of those of the first turn.
idle    bytes that 2,000 idle connections take in our server.

Answers have exactly the tokens that were asked for (ignore_eos). The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import re
import resource
import statistics
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from workers.clients import Heard, body, idle, together
from workers.contest import LAYOUTS, NAME, SIZES, finish, random_file, ratio
from workers.servers import Server, build_of, ours, peer

from gemmary.ops.numba.machine import path as kernels

LAYOUT = "Q4_0, table Q8_0"
VARIABLE = "GEMMARY_LLAMA_SERVER"
PROMPTS = (64, 512)
CONTEXT = 5120  # tokens of a stream: the conversation fits
MESSAGE = 240  # tokens of each of the last messages of the conversation
TURN_START, ENDED = 105, (106, 107)  # a newline follows the end
SPREAD = (0.5, 0.95)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="servers under load")
    parser.add_argument(
        "sizes", nargs="*", default=[], choices=[*SIZES, []], metavar="SIZE", help="1b if not said"
    )
    parser.add_argument("--file", type=Path, help="this GGUF file, instead of random weights of a size")
    parser.add_argument("--llama-server", default=os.environ.get(VARIABLE), metavar="PROGRAM")
    for name, value in {
        "streams": 8,
        "tokens": 64,
        "rounds": 5,
        "conversation": 4000,
        "connections": 2000,
    }.items():
        parser.add_argument(f"--{name}", type=int, default=value, metavar="N")
    return parser.parse_args()


def ids(count: int, rng: random.Random) -> list[int]:
    """Words of the vocabulary that mean nothing here; the first one is <bos>."""
    return [2, *(rng.randrange(1000, 200_000) for _ in range(count - 1))]


@contextmanager
def alone(server: Server, others: Sequence[Server]) -> Iterator[Server]:
    """`server` runs, the others are paused."""
    for other in others:
        other.pause()
    try:
        yield server
    finally:
        for other in others:
            other.go_on()


def load(servers: Sequence[Server], given: argparse.Namespace, prompt: int, streams: int) -> dict[str, Any]:
    """Medians over rounds for each server."""
    rounds: dict[str, list[dict[str, float]]] = {server.name: [] for server in servers}
    for number in range(given.rounds + 1):  # the first one warms up
        rng = random.Random(f"{prompt} {streams} {number}")
        prompts = [ids(prompt, rng) for _ in range(streams)]
        for server in servers:
            with alone(server, [other for other in servers if other is not server]):
                asked = [body(each, given.tokens, 7 + i) for i, each in enumerate(prompts)]
                rounds[server.name].append(measured(*together(server.port, asked), given.tokens))
    return {
        name: {key: statistics.median(each[key] for each in runs[1:]) for key in runs[0]}
        for name, runs in rounds.items()
    }


def measured(heard: Sequence[Heard], seconds: float, tokens: int) -> dict[str, float]:
    """One round."""
    short = [each.tokens for each in heard if each.tokens != tokens]
    if short:
        raise SystemExit(f"answers ended early, after {short} tokens instead of {tokens}")
    gaps = sorted(gap for each in heard for gap in each.gaps)
    between = {f"between_p{int(100 * share)}": gaps[int(share * (len(gaps) - 1))] for share in SPREAD}
    return {
        "all": sum(each.tokens for each in heard) / seconds,
        "writing": writing(heard),
        "first": statistics.median(each.first for each in heard),
        "first_worst": max(each.first for each in heard),
        **between,
    }


def writing(heard: Sequence[Heard]) -> float:
    """Tokens a second between the last one's first token and the first one's last."""
    began, ended = max(each.times[0] for each in heard), min(each.times[-1] for each in heard)
    written = sum(began < moment <= ended for each in heard for moment in each.times)
    return written / (ended - began) if ended > began else 0.0


def message(rng: random.Random, count: int) -> list[int]:
    """A message of `count` ids, the marks of its turn included."""
    return [TURN_START, *ids(count - 2, rng)[1:], *ENDED]


def conversation(rng: random.Random, tokens: int) -> list[list[int]]:
    """Messages of a person and of the model in turns: a long one, then eight shorter ones."""
    shorter = [message(rng, MESSAGE) for _ in range(8)]
    longest = message(rng, tokens - 1 - sum(map(len, shorter)))
    return [[2], longest, *shorter]


def drawn(server: Server, heard: Heard) -> list[int]:
    """The ids of an answer. A file of random weights has words that are ids, and no tokenizer takes apart."""
    words = [int(word) for word in re.findall(r" t(\d+)", heard.text)]
    if len(words) > heard.tokens // 2:
        return words
    return [token for token in server.ask("/tokenize", content=heard.text)["tokens"] if token != 2]


def joined(messages: Sequence[list[int]]) -> list[int]:
    return [token for each in messages for token in each]


def turns(server: Server, others: Sequence[Server], given: argparse.Namespace) -> dict[str, Any]:
    """Seconds to the first token of the first turn, and of three ways to go on; medians over rounds."""
    taken: dict[str, list[float]] = {name: [] for name in ("first", "append", "edit", "regenerate")}
    for number in range(given.rounds):
        rng = random.Random(f"turns {number}")
        said = conversation(rng, given.conversation)
        prompt = [*joined(said), TURN_START]
        with alone(server, others):
            heard = hear(server, prompt, given.tokens)
            answer = drawn(server, heard)
            ways = {
                "append": [*prompt, *answer, *ENDED, *message(rng, 20), TURN_START],
                # The person's message before the last one is written anew; what followed is dropped.
                "edit": [*joined(said[:-3]), *message(rng, 20), TURN_START],
                "regenerate": prompt,
            }
            taken["first"].append(heard.first)
            for name, again in ways.items():
                taken[name].append(hear(server, again, 1 + given.tokens // 8).first)
    medians = {name: statistics.median(times) for name, times in taken.items()}
    return {
        "seconds": medians,
        "percent": {name: 100 * each / medians["first"] for name, each in medians.items()},
    }


def hear(server: Server, prompt: list[int], tokens: int) -> Heard:
    heard, _ = together(server.port, [body(prompt, tokens, 7)])
    return heard[0]


def connections(server: Server, count: int) -> dict[str, float]:
    """Bytes that the server takes more while so many connections do nothing."""

    async def held() -> tuple[int, int]:
        before = server.memory()
        writers = await idle(server.port, count)
        grown = server.memory() - before
        for writer in writers:
            writer.close()
        return grown, len(writers)

    grown, count = asyncio.run(held())
    server.ask("/health")
    return {"connections": count, "bytes": grown}


def void(build: dict[str, str | None] | None) -> str | None:
    """Why a ratio means nothing: the peer was built without what this machine has and we use."""
    if build is None or not kernels().startswith("avx512"):
        return None
    if build["system_info"] is None:
        return "void: llama-server does not say how it was built"
    return None if "AVX512 = 1" in build["system_info"] else "void: llama-server was built without AVX512"


def loaded(
    servers: Sequence[Server], given: argparse.Namespace, size: str, invalid: str | None
) -> list[dict[str, Any]]:
    """The first table: a row for each length of prompts, and for each way to count."""
    rows = []
    for prompt in PROMPTS:
        one = load(servers, given, prompt, 1)
        many = load(servers, given, prompt, given.streams)
        row: dict[str, Any] = {"prompt": prompt, "one": one, "many": many, "void": invalid}
        for way in ("all", "writing"):
            speed = {name: each[way] for name, each in many.items()}
            gain = {name: speed[name] / one[name][way] for name in speed}
            row[way] = {"gain": gain, "ratio": None if invalid or not all(speed.values()) else ratio(speed)}
            own = ", ".join(f"{name} {times:.2f}x" for name, times in gain.items())
            shown = " vs ".join(f"{name} {value:.1f}" for name, value in speed.items())
            share = f" ({row[way]['ratio']:.2f}x)" if row[way]["ratio"] else ""
            what = f"{given.streams} behind {prompt:>3} ids, {way:>7}"
            print(f"{size:>5}  {what}: {shown} tok/s{share}; over one stream: {own}")
        for name, each in many.items():
            between = f"p50 {1000 * each['between_p50']:.0f}, p95 {1000 * each['between_p95']:.0f} ms"
            first = f"{each['first']:.2f} s, worst {each['first_worst']:.2f} s"
            print(
                f"       {name:>9}: first token {first}; between tokens {between} {invalid or ''}", flush=True
            )
        rows.append(row)
    return rows


def gone_on(servers: Sequence[Server], given: argparse.Namespace, size: str) -> dict[str, Any]:
    """The second table."""
    rows = {
        server.name: turns(server, [each for each in servers if each is not server], given)
        for server in servers
    }
    for name, each in rows.items():
        ways = ", ".join(f"{way} {share:.1f} %" for way, share in each["percent"].items() if way != "first")
        first = f"first turn of {given.conversation} tokens {each['seconds']['first']:.2f} s"
        print(f"{size:>5}  {name}: {first}; {ways}", flush=True)
    return rows


def tables(file: Path, size: str, given: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """All tables of one file, and how the peer was built."""
    build = build_of(given.llama_server, file) if given.llama_server else None
    with ExitStack() as stack:
        servers = [stack.enter_context(ours(file, CONTEXT, given.streams))]
        if given.llama_server:
            servers.append(stack.enter_context(peer(given.llama_server, file, CONTEXT, given.streams)))
        load_rows = loaded(servers, given, size, void(build))
        turn_rows = gone_on(servers, given, size)
        held = connections(servers[0], given.connections)
        print(f"{size:>5}  {held['connections']} idle connections: {held['bytes'] / 1e6:.0f} MB", flush=True)
    return {"size": size, "load": load_rows, "turns": turn_rows, "idle": held}, {NAME: build} if build else {}


def main() -> None:
    given = arguments()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    rows, said = [], {}
    for size in [given.file.stem] if given.file else given.sizes or ["1b"]:
        with nullcontext(given.file) if given.file else random_file(size, LAYOUTS[LAYOUT]) as file:
            found, said = tables(file, size, given)
        rows.append(found)
    finish("serving", rows, said)


if __name__ == "__main__":
    main()
