"""A file of targets gives back what was written, at random, and nothing that was not."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from gemmary.train.target_shard import Entries, Shard, TargetsError, open_shard, write_shard

VOCABULARY = 262_144


def made(reading: str, lists: list[dict[int, float]]) -> Entries:
    """Entries of tokens, each {id: value}."""
    kind = "u1" if reading == "counts" else "<f2"
    flat = [(i, v) for found in lists for i, v in sorted(found.items())]
    ids, values = (np.array(column) for column in zip(*flat, strict=True))
    return Entries(np.array([len(found) for found in lists]), ids, values.astype(np.int64).astype(kind)
                   if reading == "counts" else values.astype(kind))  # fmt: skip


def written(path: Path, reading: str, lists: list[dict[int, float]], draws: int = 256) -> Shard:
    header = {"vocabulary": VOCABULARY, "reading": reading, "draws": draws, "note": "ours"}
    write_shard(path, header, made(reading, lists))
    return open_shard(path)


def found(shard: Shard, token: int) -> dict[int, float]:
    (ids,), (values,) = shard.read(np.array([token]))
    return {int(i): float(v) for i, v in zip(ids, values, strict=True) if v}


# The first and last id, gaps of 65,535 exactly, one less, one more, and several bridges in a row.
PROBABILITIES = [
    {0: 0.5, 65_535: 0.25, 131_069: 0.125, 196_605: 0.125},
    {262_143: 1.0},
    {},
    {7: 0.75, 8: 0.25},
    {0: 0.5, 262_143: 0.5},
    {131_070: 1.0},
]
COUNTS = [
    {0: 255, 262_143: 1},
    {262_143: 256},
    {},
    {0: 256},
    {3: 100, 65_538: 156},
    {i: 1 for i in range(256)},
]


@pytest.mark.parametrize("reading, lists", [("renormalised", PROBABILITIES), ("counts", COUNTS)])
def test_every_token_comes_back_alone_and_in_company(
    tmp_path: Path, reading: str, lists: list[dict[int, float]]
) -> None:
    shard = written(tmp_path / "a.bin", reading, lists)
    assert shard.header["note"] == "ours"
    full = [token for token, target in enumerate(lists) if target]
    for token in full:
        assert found(shard, token) == lists[token]
    ids, values = shard.read(np.array(full[::-1]))
    for row, token in enumerate(full[::-1]):
        together = {int(i): float(v) for i, v in zip(ids[row], values[row], strict=True) if v}
        assert together == lists[token]


def test_random_targets_come_back(tmp_path: Path) -> None:
    dice = np.random.default_rng(0)
    lists = []
    for _ in range(60):
        ids = dice.choice(VOCABULARY, int(dice.integers(1, 200)), replace=False)
        lists.append({int(i): float(np.float16(dice.random() + 1e-3)) for i in ids})
    shard = written(tmp_path / "a.bin", "renormalised", lists)
    assert all(found(shard, token) == target for token, target in enumerate(lists))


def test_a_token_without_targets_is_an_error(tmp_path: Path) -> None:
    shard = written(tmp_path / "a.bin", "renormalised", PROBABILITIES)
    with pytest.raises(TargetsError, match="no targets for a token"):
        shard.read(np.array([0, 2]))


def test_no_changed_byte_goes_unseen(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    written(path, "counts", COUNTS)
    whole = path.read_bytes()
    for place in range(0, len(whole), 5):
        spoilt = bytearray(whole)
        spoilt[place] ^= 1 << place % 8
        path.write_bytes(spoilt)
        with pytest.raises(TargetsError, match="changed since it was written"):
            open_shard(path)


@pytest.mark.parametrize("cut", [0, 5, 12, 100, -1])
def test_a_cut_file_is_refused(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.bin"
    written(path, "counts", COUNTS)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(TargetsError, match=r"cannot be read|changed since"):
        open_shard(path)


@pytest.mark.parametrize(
    "change",
    [
        {"tokens": -1},
        {"entries": 10**12},
        {"reading": "pickle"},
        {"tokens": "6"},
        {"tokens": None},
        {"vocabulary": "x"},
        {"draws": None},
    ],
)
def test_a_hostile_header_is_an_error_with_a_sentence(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "a.bin"
    shard = written(path, "counts", COUNTS)
    length = 12 + int.from_bytes(path.read_bytes()[8:12], "little")
    text = json.dumps({**shard.header, **change}).encode().ljust(length - 12 + 64)
    whole = b"GEMTGT1\n" + len(text).to_bytes(4, "little") + text + path.read_bytes()[length:-32]
    path.write_bytes(whole + hashlib.sha256(whole).digest())
    with pytest.raises(TargetsError, match="cannot be read"):
        open_shard(path)


def test_ids_outside_the_vocabulary_are_refused(tmp_path: Path) -> None:
    header = {"vocabulary": 1000, "reading": "renormalised", "draws": 4}
    write_shard(tmp_path / "a.bin", header, made("renormalised", [{999: 1.0}, {1000: 1.0}]))
    shard = open_shard(tmp_path / "a.bin")
    assert found(shard, 0) == {999: 1.0}
    with pytest.raises(TargetsError, match="outside the vocabulary"):
        shard.read(np.array([1]))
