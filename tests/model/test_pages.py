"""Windowed pages against a plain list of tokens a text: nothing lost, nothing leaked, bytes bounded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from gemmary.config import Config
from gemmary.errors import MemoryBudgetError
from gemmary.model.pages import Pages, Sequence, page_bytes, pages_needed
from gemmary.ops.contract import GLOBAL, LOCAL, PAGE, LayerPages

KINDS = (GLOBAL, LOCAL)
SIZES = Config("tiny", 16, 8, 7, 2, 1, 4, ffn=8, window=100, context=4096, query_scalar=4)
CHUNK = 150  # most tokens a step of these tests


class Slots:
    """The part of an op table that pages need: one number a slot instead of keys and values."""

    def pages(self, count: int, kv_heads: int, head_dim: int) -> LayerPages:
        return LayerPages(np.full((count, PAGE), -1), np.full((count, PAGE), -1))

    def copy_page(self, store: LayerPages, source: int, target: int) -> None:
        store.keys[target] = store.keys[source]
        store.values[target] = store.values[source]


@dataclass
class Text:
    """A sequence, and the tokens that it should hold."""

    sequence: Sequence
    tokens: list[int]


def make(window: int, capacity: tuple[int, int] = (200, 200)) -> Pages:
    ops: Any = Slots()
    return Pages(ops, replace(SIZES, window=window), capacity)


def write(pages: Pages, sequence: Sequence, tokens: list[int]) -> None:
    """What the append of an attention layer does, in every layer."""
    at = sequence.length + np.arange(len(tokens))
    table = pages.table([sequence])[0]
    for layer, store in enumerate(pages.layers):
        page = table[GLOBAL if pages.config.is_global(layer) else LOCAL][at // PAGE]
        assert (page >= 0).all()
        store.keys[page, at % PAGE] = tokens
        store.values[page, at % PAGE] = [-t for t in tokens]


def add(pages: Pages, text: Text, tokens: list[int]) -> None:
    pages.reserve(text.sequence, len(tokens))
    write(pages, text.sequence, tokens)
    pages.commit(text.sequence, len(tokens))
    text.tokens += tokens


def check(pages: Pages, text: Text) -> None:
    """Every key that the next token sees is there and is this text's."""
    length = len(text.tokens)
    assert text.sequence.length == length
    table = pages.table([text.sequence])[0]
    for layer, store in enumerate(pages.layers):
        kind = GLOBAL if pages.config.is_global(layer) else LOCAL
        first = 0 if kind == GLOBAL else max(0, length - pages.config.window + 1)
        at = np.arange(first, length)
        page = table[kind][at // PAGE]
        assert (page >= 0).all()
        assert store.keys[page, at % PAGE].tolist() == text.tokens[first:]
        assert store.values[page, at % PAGE].tolist() == [-t for t in text.tokens[first:]]


def held(texts: list[Text], kind: int) -> set[int]:
    return {page for text in texts for page in text.sequence.tables[kind] if page >= 0}


def stored_bytes(pages: Pages, kind: int) -> int:
    """Of a page of these tests, which keep 8 bytes a token where an engine has all numbers of all heads."""
    return page_bytes(pages.config, kind, 8 / (pages.config.kv_heads * pages.config.head_dim))


class Conversations(RuleBasedStateMachine):
    """Random texts that grow, fork, roll back and end."""

    texts = Bundle("texts")

    @initialize(
        window=st.sampled_from([1, 2, 63, 64, 65, 100, 128, 200]),
        capacity=st.sampled_from([(200, 200), (200, 9), (12, 12)]),
    )
    def start(self, window: int, capacity: tuple[int, int]) -> None:
        self.pages = make(window, capacity)
        self.capacity = capacity
        self.live: list[Text] = []
        self.next = 0

    def tokens(self, count: int) -> list[int]:
        """Numbers that no text has yet."""
        self.next += count
        return list(range(self.next - count, self.next))

    @rule(target=texts)
    def begin(self) -> Text:
        self.live.append(Text(Sequence(), []))
        return self.live[-1]

    @rule(text=texts, count=st.integers(1, CHUNK))
    def grow(self, text: Text, count: int) -> None:
        if self.pages.room(text.sequence, count):
            add(self.pages, text, self.tokens(count))
            return
        before = repr(text.sequence)
        with pytest.raises(MemoryBudgetError):
            self.pages.reserve(text.sequence, count)
        assert repr(text.sequence) == before

    @rule(text=texts, count=st.integers(1, CHUNK), kept=st.integers(0, CHUNK))
    def draft(self, text: Text, count: int, kept: int) -> None:
        """Tokens are written, and only the first are accepted."""
        if self.pages.room(text.sequence, count):
            drafted = self.tokens(count)
            self.pages.reserve(text.sequence, count)
            write(self.pages, text.sequence, drafted)
            self.pages.commit(text.sequence, min(kept, count))
            text.tokens += drafted[:kept]

    @rule(text=texts, count=st.integers(1, CHUNK))
    def give_up(self, text: Text, count: int) -> None:
        """A step is reserved, partly written and abandoned."""
        if self.pages.room(text.sequence, count):
            self.pages.reserve(text.sequence, count)
            write(self.pages, text.sequence, self.tokens(count // 2))
            self.pages.truncate(text.sequence, text.sequence.length)

    @rule(target=texts, text=texts)
    def fork(self, text: Text) -> Text:
        used = self.pages.bytes_used
        self.live.append(Text(self.pages.fork(text.sequence), list(text.tokens)))
        assert self.pages.bytes_used == used
        return self.live[-1]

    @rule(text=texts, share=st.floats(0, 1))
    def roll_back(self, text: Text, share: float) -> None:
        length = int(len(text.tokens) * share)
        if self.pages.can_truncate(text.sequence, length):
            self.pages.truncate(text.sequence, length)
            del text.tokens[length:]
        else:
            with pytest.raises(ValueError, match="roll back"):
                self.pages.truncate(text.sequence, length)

    @rule(text=consumes(texts))
    def end(self, text: Text) -> None:
        self.pages.release(text.sequence)
        self.live = [other for other in self.live if other is not text]
        check(self.pages, Text(text.sequence, []))

    @invariant()
    def nothing_is_lost(self) -> None:
        for text in self.live:
            check(self.pages, text)
            assert self.pages.can_truncate(text.sequence, text.sequence.length)

    @invariant()
    def nothing_leaks(self) -> None:
        sizes = [len(held(self.live, kind)) * stored_bytes(self.pages, kind) for kind in KINDS]
        assert self.pages.bytes_used == sum(sizes)

    def teardown(self) -> None:
        for text in self.live:
            self.pages.release(text.sequence)
        assert self.pages.bytes_used == 0
        assert self.pages.room(Sequence(), min(self.capacity) * PAGE)


TestConversations = Conversations.TestCase
TestConversations.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@pytest.mark.parametrize("window", [1, 63, 64, 65, 100, 129])
@pytest.mark.parametrize("chunk", [1, 7, 64, 65, CHUNK])
def test_bytes_are_bounded(window: int, chunk: int) -> None:
    """Global pages for every token, local ones for window and chunk, and a page a list."""
    pages, text = make(window), Text(Sequence(), [])
    for step in range(-(-700 // chunk)):
        before = len(text.tokens)
        pages.reserve(text.sequence, chunk)
        kept = {GLOBAL: before + chunk, LOCAL: min(before + chunk, window + chunk)}
        for kind in KINDS:
            count = len(held([text], kind))
            assert count <= -(-kept[kind] // PAGE) + 1
            assert count <= pages_needed(pages.config, kind, before + chunk, chunk)
        write(pages, text.sequence, list(range(before, before + chunk)))
        pages.commit(text.sequence, chunk)
        text.tokens += range(before, before + chunk)
        assert len(text.tokens) == (step + 1) * chunk
    check(pages, text)


def test_capacity_that_is_said_to_suffice_suffices() -> None:
    """A pool of `pages_needed` holds a text to its last token, for any window and chunk."""
    for window, chunk, tokens in [
        (1, 1, 200),
        (64, 64, 640),
        (65, 63, 500),
        (100, 150, 1200),
        (512, 100, 1300),
    ]:
        config = replace(SIZES, window=window)
        capacity = tuple(pages_needed(config, kind, tokens, chunk) for kind in KINDS)
        pages, text = make(window, (capacity[0], capacity[1])), Text(Sequence(), [])
        while len(text.tokens) < tokens:
            count = min(chunk, tokens - len(text.tokens))
            add(pages, text, list(range(len(text.tokens), len(text.tokens) + count)))
        check(pages, text)


def test_branches_share_what_they_have_in_common() -> None:
    pages, trunk = make(100), Text(Sequence(), [])
    add(pages, trunk, list(range(130)))
    branches = [Text(pages.fork(trunk.sequence), list(trunk.tokens)) for _ in range(3)]
    used = pages.bytes_used
    for number, branch in enumerate(branches):
        add(pages, branch, [1000 + number])
        check(pages, branch)
    check(pages, trunk)
    assert pages.bytes_used == used + 3 * sum(stored_bytes(pages, kind) for kind in KINDS)


def test_the_last_token_can_always_be_rolled_back() -> None:
    for window in (1, 2, 63, 64, 65, 100, 128):
        pages, text = make(window), Text(Sequence(), [])
        for token in range(400):
            add(pages, text, [token])
            assert pages.can_truncate(text.sequence, token)


def test_a_full_pool_says_what_to_do() -> None:
    pages = make(100, (3, 3))
    sequence = Sequence()
    assert pages.room(sequence, 3 * PAGE)
    assert not pages.room(sequence, 3 * PAGE + 1)
    with pytest.raises(MemoryBudgetError, match="no free pages"):
        pages.reserve(sequence, 3 * PAGE + 1)
    assert pages.bytes_used == 0


def test_rolling_forward_is_refused() -> None:
    pages, text = make(100), Text(Sequence(), [])
    add(pages, text, [1, 2, 3])
    assert not pages.can_truncate(text.sequence, 4)
    with pytest.raises(ValueError, match="roll back"):
        pages.truncate(text.sequence, 4)


def test_tables_of_a_step() -> None:
    """int32 [S, 2, n], -1 where a page is dropped or was never there."""
    pages = make(64)
    long, short = Text(Sequence(), []), Text(Sequence(), [])
    add(pages, long, list(range(260)))
    add(pages, short, [1])
    table = pages.table([long.sequence, short.sequence])
    assert table.dtype == np.int32
    assert table.shape == (2, 2, 5)
    assert (table[0, GLOBAL] >= 0).all()
    assert (table[0, LOCAL] >= 0).tolist() == [False, False, False, True, True]
    assert (table[1] >= 0).tolist() == [[True, False, False, False, False]] * 2
