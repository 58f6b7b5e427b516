"""Bits do not depend on company: alone = batched, chunked = whole, forked = fresh, rolled back = never was.

Past the window, at page borders, and for packed weights as well as floats.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from gemmary.formats import FORMATS
from gemmary.model.pages import Sequence
from gemmary.ops.numba.machine import prepare
from tests.parity.decoding import Decoding, cpu
from tests.parity.ggufs import quantized_copy
from tests.parity.sharp import Kind, saved, text_ids

WIDE = Kind(
    "wide",
    layers=7,
    heads=2,
    kv_heads=1,
    head_dim=128,
    window=50,
    query_scalar=128,
    factor=8.0,
    width=256,
    ffn=512,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("wide")
    saved(WIDE, path)
    return path


SHORT = ("F32", "F16", "Q8_0", "Q4_0", "Q4_1", "Q4_K", "Q6_K")  # every kind of product
LONG = ("BF16", "Q5_0", "Q5_1", "Q5_K")
CASES = [pytest.param((name, "F16"), id=name) for name in SHORT]
CASES += [pytest.param((name, "F16"), id=name, marks=pytest.mark.long) for name in LONG]
CASES += [pytest.param(("Q8_0", "I8"), id="pages-I8")]


@pytest.fixture(scope="module", params=CASES)
def decoding(
    request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Decoding:
    form, pages = request.param
    path = tmp_path_factory.mktemp(form) / "model.gguf"
    quantized_copy(folder, path, FORMATS[form])
    return cpu(path, pages=pages)


@pytest.fixture(scope="module")
def text() -> list[int]:
    return text_ids(140, seed=5)


@pytest.fixture(scope="module")
def whole(decoding: Decoding, text: list[int]) -> np.ndarray:
    return decoding.run(text, (len(text),))


@pytest.mark.parametrize("cuts", [(1,), (7,), (63, 1), (65, 2, 50)], ids=str)
def test_chunked_equals_whole(
    decoding: Decoding, text: list[int], whole: np.ndarray, cuts: tuple[int, ...]
) -> None:
    np.testing.assert_array_equal(decoding.run(text, cuts), whole)


def test_alone_equals_batched(decoding: Decoding, text: list[int], whole: np.ndarray) -> None:
    others = [text_ids(n, seed=n) for n in (64, 1, 129, 30, 128, 65, 100)]
    batched = decoding.together([*others[:3], text, *others[3:]], 37)
    np.testing.assert_array_equal(batched[3], whole)


def test_fork_equals_fresh(decoding: Decoding, text: list[int], whole: np.ndarray) -> None:
    trunk = Sequence()
    decoding.run(text[:100], (100,), trunk)
    branch = decoding.pages.fork(trunk)
    decoding.run(text_ids(60, seed=9), (13,), trunk)  # the other branch writes on, into its own pages
    np.testing.assert_array_equal(decoding.run(text[100:], (20,), branch), whole[100:])
    for sequence in (trunk, branch):
        decoding.pages.release(sequence)


def test_rolled_back_equals_never_happened(decoding: Decoding, text: list[int], whole: np.ndarray) -> None:
    sequence = Sequence()
    decoding.run(text[:130], (130,), sequence)
    keep = next(n for n in range(1, 130) if decoding.pages.can_truncate(sequence, n))
    decoding.pages.truncate(sequence, keep)
    np.testing.assert_array_equal(decoding.run(text[keep:], (9,), sequence), whole[keep:])
    decoding.pages.release(sequence)


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    yield prepare(request.param)
    prepare()


def test_threads_do_not_change_bits(
    decoding: Decoding, text: list[int], whole: np.ndarray, threads: int
) -> None:
    """In large steps, and in small ones that are recorded."""
    np.testing.assert_array_equal(decoding.run(text, (64, 1, 1, 2, 1)), whole)
