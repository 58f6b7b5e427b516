from __future__ import annotations

import json
import random
from typing import Any

import pytest

from gemmary.serve.affinity import BLOCK, BLOCKS, Affinity, chain_of

NAMES = ["a", "b", "c"]


def said(*texts: Any, **fields: Any) -> bytes:
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]
    return json.dumps({"messages": messages, **fields}).encode()


def text(seed: int, blocks: float = 4) -> str:
    return "".join(random.Random(seed).choices("abcdefgh ", k=int(blocks * BLOCK)))


def send(affinity: Affinity, body: bytes) -> str:
    """One request that is answered at once."""
    name = begin(affinity, body)
    affinity.ended(name)
    return name


def begin(affinity: Affinity, body: bytes) -> str:
    chain = chain_of(body)
    name = affinity.rank(chain, NAMES)[0]
    affinity.began(chain, name)
    return name


def test_the_next_turn_begins_as_the_last_one() -> None:
    first, second = chain_of(said(text(1))), chain_of(said(text(1), "yes", "and then?", text(2)))
    assert len(first) == 4
    assert second[:4] == first
    assert len(second) > 4


@pytest.mark.parametrize(
    "fields", [{"model": "other"}, {"cache_salt": "mine"}, {"tools": [{"type": "function"}]}]
)
def test_what_shares_no_cache_shares_no_beginning(fields: dict[str, Any]) -> None:
    assert set(chain_of(said(text(1)))).isdisjoint(chain_of(said(text(1), **fields)))


def test_an_edit_changes_what_comes_after_it_only() -> None:
    plain, edited = chain_of(said(text(1, 4), text(2))), chain_of(said(text(1, 3) + text(3, 1), text(2)))
    assert plain[:3] == edited[:3]
    assert set(plain[3:]).isdisjoint(edited[3:])


def test_ids_are_a_text_too() -> None:
    ids = list(range(1000, 1400))
    short, long = (chain_of(json.dumps({"prompt": ids[:n]}).encode()) for n in (300, 400))
    assert len(short) > 4
    assert long[: len(short)] == short


def test_sampling_changes_no_beginning() -> None:
    assert chain_of(said(text(1), temperature=0.5, seed=1)) == chain_of(said(text(1)))


def test_long_texts_count_to_a_limit() -> None:
    assert len(chain_of(said(text(1, 3 * BLOCKS)))) == BLOCKS


def test_a_picture_counts_by_what_it_shows_not_by_its_size() -> None:
    def ask(data: str) -> bytes:
        picture = {"type": "image_url", "image_url": {"url": data}}
        return said([picture, {"type": "text", "text": text(1)}])

    assert chain_of(ask("data:a" * 100_000)) == chain_of(ask("data:a" * 100_000))
    assert set(chain_of(ask("data:a" * 100_000))).isdisjoint(chain_of(ask("data:b" * 100_000)))
    assert len(chain_of(ask("data:a" * 100_000))) == 4


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"7", b"\xff", b'{"messages": 7}', b'{"messages": [7, null, {"content": 7}]}',
     b"[" * 100_000, b'{"prompt": [1, 2]}', b'{"messages": [{"content": [null, [], {"text": 7}]}]}'],
)  # fmt: skip
def test_bodies_that_an_engine_will_refuse_have_no_beginning(body: bytes) -> None:
    assert chain_of(body) == []


def test_a_conversation_stays_where_it_began() -> None:
    affinity = Affinity()
    turns = {seed: [text(seed)] for seed in range(12)}
    began = {seed: send(affinity, said(*turns[seed])) for seed in turns}
    assert {list(began.values()).count(name) for name in NAMES} == {4}
    for _ in range(3):
        for seed in random.Random(1).sample(sorted(turns), len(turns)):
            turns[seed] += ["an answer", "and then?"]
            assert send(affinity, said(*turns[seed])) == began[seed]


def test_the_longest_beginning_counts() -> None:
    """A shared system prompt was read by all; the conversation behind it by one."""
    affinity = Affinity()
    shared = text(1)
    for name in NAMES:
        affinity.began(chain_of(said(shared)), name)
        affinity.ended(name)
    affinity.began(chain_of(said(shared, text(2))), "b")
    affinity.ended("b")
    assert affinity.rank(chain_of(said(shared, text(2), "more")), NAMES)[0] == "b"


def test_a_beginning_that_all_share_does_not_overload_one() -> None:
    affinity = Affinity(bound=1.25, spare=2)
    names = [begin(affinity, said(text(1), text(seed))) for seed in range(30)]
    assert names[0] == names[1], "with little to do, it goes where it was read"
    assert max(affinity.load(name) for name in NAMES) <= 13  # 1.25 times the mean of 10, rounded up
    assert sum(affinity.load(name) for name in NAMES) == 30


def test_what_was_moved_is_known_there_too() -> None:
    affinity = Affinity(spare=1)
    home = begin(affinity, said(text(1)))
    away = begin(affinity, said(text(1)))
    assert away != home
    affinity.ended(away)
    assert affinity.rank(chain_of(said(text(1))), NAMES)[0] == away, "home is busy, and away has read it"


def test_others_follow_in_the_order_of_their_load() -> None:
    affinity = Affinity()
    for name in "bba":
        affinity.began([], name)
    assert affinity.rank([], NAMES) == ["c", "a", "b"]


def test_an_engine_that_is_gone_is_forgotten() -> None:
    affinity = Affinity()
    home = send(affinity, said(text(1)))
    others = [name for name in NAMES if name != home]
    affinity.keep(others)
    assert affinity.rank(chain_of(said(text(1))), others)[0] in others
    assert affinity.rank(chain_of(said(text(1))), NAMES)[0] == home, (
        "again idle, with nothing read: first by name"
    )
    assert affinity.load(home) == 0


def test_nobody_to_ask() -> None:
    assert Affinity().rank(chain_of(said(text(1))), []) == []


def test_memory_is_bounded() -> None:
    affinity = Affinity(limit=8)
    homes = {seed: send(affinity, said(text(seed))) for seed in range(3)}
    affinity.began([], homes[2])
    affinity.began([], homes[0])
    assert affinity.rank(chain_of(said(text(2))), NAMES)[0] == homes[2], "the last two are remembered"
    assert affinity.rank(chain_of(said(text(0))), NAMES)[0] == homes[1], "the first is not: the idlest"
