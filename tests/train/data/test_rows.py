"""Rows of shards are the rows that packing makes, whatever was interrupted; what does not fit is refused."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from gemmary.inputs.tokenizer import Tokenizer
from gemmary.train.batches import Batches
from gemmary.train.data.rows import PackedShards, Seen
from gemmary.train.data.shards import ShardError, Shards, ShardWriter, open_shards
from gemmary.train.data.sources import Picture
from gemmary.train.packing import Document, Rows, pack_rows
from gemmary.train.vocabulary import train_vocabulary
from tests.train.data.toyfiles import model

ROW = 16


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_model(model())


def documents(seed: int, count: int) -> list[list[int]]:
    """No two tokens of all are the same, so that each can be followed."""
    dice = np.random.default_rng(seed)
    ends = np.cumsum(dice.integers(1, 30, count)) + 110
    return [list(range(first, last)) for first, last in zip([110, *ends], ends, strict=False)]


def write(folder: Path, tokenizer: Tokenizer, texts: list[list[int]], shard_tokens: int) -> Shards:
    writer = ShardWriter(folder, tokenizer, shard_tokens)
    for number, ids in enumerate(texts):
        writer.add(ids, number % 3)
    writer.finish({"plan": "p"})
    return open_shards(folder, tokenizer)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> PackedShards:
    shards = write(tmp_path_factory.mktemp("shards"), tokenizer, documents(0, 40), 150)
    assert len(shards.shards) > 3
    return PackedShards(shards, ROW)


def tokens(rows: Rows) -> list[int]:
    return [int(token) for token in rows.ids[rows.document >= 0]]


def equal(one: Rows, other: Rows) -> bool:
    names = ("ids", "document", "pos", "weights")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


def test_one_shard_gives_what_packing_gives(tmp_path: Path, tokenizer: Tokenizer) -> None:
    texts = documents(1, 25)
    rows = PackedShards(write(tmp_path, tokenizer, texts, 10**6), ROW).take(slice(None))
    assert equal(rows, pack_rows([Document(ids, [1.0] * len(ids)) for ids in texts], ROW))


def test_every_token_is_in_the_rows_once(packed: PackedShards) -> None:
    everything = [token for ids in documents(0, 40) for token in ids]
    assert Counter(tokens(packed.take(slice(None)))) == Counter(everything)


def test_some_rows_are_those_rows(packed: PackedShards) -> None:
    numbers = np.random.default_rng(0).permutation(len(packed)).astype(np.int32)
    assert equal(packed.take(numbers), packed.take(slice(None)).take(numbers))


def test_an_epoch_left_anywhere_goes_on_with_nothing_lost_or_repeated(
    packed: PackedShards, tokenizer: Tokenizer
) -> None:
    """At every step of two epochs: what was seen, and what newly opened shards give from there on."""
    steps = -(-2 * len(packed) // 3)
    whole = [Batches(packed, 3, 1, seed=4).step(step)[0] for step in range(steps)]
    for left in range(steps + 1):
        opened = PackedShards(open_shards(packed._shards.folder, tokenizer), ROW)
        again = Batches(opened, 3, 1, seed=4)
        resumed = whole[:left] + [again.step(step)[0] for step in range(left, steps)]
        assert all(equal(one, other) for one, other in zip(whole, resumed, strict=True))
    seen = Counter(token for rows in whole for token in tokens(rows))
    once = Counter(tokens(packed.take(slice(None))))
    assert all(seen[token] >= 2 for token in once)
    assert sum(row.ids.shape[0] for row in whole) - 2 * len(packed) in (0, 1, 2)


def test_the_digest_tells_data_and_rows_apart(tmp_path: Path, tokenizer: Tokenizer) -> None:
    digests = set()
    for seed in (0, 1):
        (tmp_path / f"{seed}").mkdir()
        shards = write(tmp_path / f"{seed}", tokenizer, documents(seed, 9), 100)
        digests |= {PackedShards(shards, row).digest for row in (8, 8, 9)}
    assert len(digests) == 4


# Pictures


def first_columns(rows: Rows) -> np.ndarray:
    """Where a picture begins [B, row]; text stands before each."""
    assert rows.pictures is not None
    shown: np.ndarray = rows.pictures >= 0
    return shown & ~np.roll(shown, 1, axis=1)


def test_pictures_are_found_and_not_predicted(tmp_path: Path, tokenizer: Tokenizer) -> None:
    start, soft, end = tokenizer.start_of_image, tokenizer.soft, tokenizer.end_of_image
    assert start is not None and soft is not None and end is not None
    pair = [2, start, *[soft] * 4, end, 150, 151, 1]
    writer = ShardWriter(tmp_path, tokenizer, 1000)
    red, blue = Picture("red.png", "r"), Picture("blue.png", "b")
    for ids, picture in (([2, 120, 1], None), (pair, red), (pair, blue), (pair, red)):
        writer.add(ids, 0, None if picture is None else (2, picture))
    writer.finish({})
    shards = open_shards(tmp_path, tokenizer)
    packed = PackedShards(shards, 14)
    numbers = np.arange(len(packed), dtype=np.int32)
    rows, seen = packed.take(numbers), packed.pictures(numbers)
    assert shards.pictures() == [red, blue]
    assert [shards.pictures()[s.picture] for s in seen] == [red, blue, red]
    assert all((rows.ids[s.row, s.column : s.column + 4] == soft).all() for s in seen)
    assert Seen(0, 5, 0) in seen  # behind the three tokens of the first document
    assert [(s.row, s.column) for s in seen] == list(zip(*np.nonzero(first_columns(rows)), strict=True))
    assert rows.shown.tolist() == [s.picture for s in seen] and (rows.step()[0].block >= 0).sum() == 12
    _, targets, weights = rows.step()
    assert not {start, soft, end} & set(targets.tolist())
    assert {150, 151, 1} < set(targets.tolist()) and (weights == 1).all()
    with pytest.raises(ShardError, match="take rows of as many"):
        PackedShards(shards, 9)


# What does not fit


def test_another_vocabulary_is_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    write(tmp_path, tokenizer, documents(0, 3), 100)
    other = Tokenizer.from_model(train_vocabulary(["other words than those"] * 9, 520))
    with pytest.raises(ShardError, match="another vocabulary, of 600 pieces"):
        open_shards(tmp_path, other)


@pytest.mark.parametrize("name", ["00000.safetensors", "00002.safetensors", "manifest.json"])
@pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
def test_damage_is_refused(tmp_path: Path, tokenizer: Tokenizer, name: str, damage: str) -> None:
    write(tmp_path, tokenizer, documents(0, 30), 100)
    path = tmp_path / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content if damage == "changed" else content[:-5])
    if (name, damage) == ("manifest.json", "changed"):  # one bit of a manifest may still be a manifest
        path.write_text(json.dumps({"format": "other"}))
    with pytest.raises(ShardError, match="prepare the data again"):
        open_shards(tmp_path, tokenizer)
