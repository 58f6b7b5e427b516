"""The CPU op table where it decides something: embedding and pictures, rows, heads, one rounding for many."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gemmary.formats import FORMATS, Format
from gemmary.model.text import Gain
from gemmary.ops.candidates import candidates
from gemmary.ops.contract import Candidates, Full, Scored, Targets, TopK, pack
from gemmary.ops.numba.table import NumbaOps
from tests.formats.oracle import by_name
from tests.ops.numba.played import linear as made_linear
from tests.ops.numba.played import product
from tests.ops.numba.test_linear import activations, packed, weights

OPS = NumbaOps()
TABLES = [FORMATS[name] for name in ("F32", "F16", "Q8_0", "Q4_0", "Q6_K")]
VOCAB, WIDTH, ROWS = 300, 256, 11  # more rows than the head works on at once


def table_and_states(form: Format) -> tuple[object, np.ndarray, np.ndarray]:
    """A table, states [R, D], and their full logits."""
    table = packed(form, VOCAB, WIDTH)
    h = np.random.default_rng(4).normal(size=(ROWS, WIDTH)).astype(np.float32)
    logits = OPS.head(h, table, Full())
    assert isinstance(logits, np.ndarray)
    return table, h, logits


@pytest.mark.parametrize("form", TABLES, ids=by_name)
def test_scores_of_targets(form: Format) -> None:
    table, h, logits = table_and_states(form)
    ids = np.random.default_rng(5).integers(0, VOCAB, ROWS).astype(np.int32)
    scored = OPS.head(h, table, Targets(ids))
    assert isinstance(scored, Scored)
    np.testing.assert_array_equal(scored.logits, logits[np.arange(ROWS), ids])
    np.testing.assert_array_equal(scored.best, logits.argmax(-1))
    wide = logits.astype(np.float64)
    np.testing.assert_allclose(scored.lse, np.log(np.exp(wide).sum(-1)), rtol=1e-6)


@pytest.mark.parametrize("form", TABLES, ids=by_name)
def test_best_of_many(form: Format) -> None:
    """The same ids and the same bits as from full logits; lse counts what is not allowed, too."""
    table, h, logits = table_and_states(form)
    allowed = np.random.default_rng(6).random(VOCAB) < 0.5
    for want in (
        TopK(1),
        TopK(64),
        TopK(VOCAB),
        TopK(20, allowed),
        TopK(8, allowed, np.array([3, 299], np.int32)),
    ):
        found = OPS.head(h, table, want)
        assert isinstance(found, Candidates)
        plain = candidates(logits, found.lse, want)
        np.testing.assert_array_equal(found.ids, plain.ids)
        np.testing.assert_array_equal(found.logits, plain.logits)
        np.testing.assert_allclose(found.lse, np.log(np.exp(logits.astype(np.float64)).sum(-1)), rtol=1e-6)


def test_large_logits_do_not_overflow() -> None:
    table = packed(FORMATS["F32"], VOCAB, WIDTH)
    h = 1e4 * np.random.default_rng(4).normal(size=(2, WIDTH)).astype(np.float32)
    scored = OPS.head(h, table, Targets(np.zeros(2, np.int32)))
    assert isinstance(scored, Scored)
    np.testing.assert_allclose(scored.lse, OPS.head(h, table, Full()).max(-1), rtol=1e-6)


def test_embedding_and_picture() -> None:
    table = packed(FORMATS["Q8_0"], 50, 64)
    soft = np.random.default_rng(1).normal(size=(3, 64)).astype(np.float32)
    step = replace(pack([[4, 49, 0, 0, 0, 4]]), block=np.array([-1, -1, 0, 0, 1, -1], np.int32), soft=soft)
    x = OPS.embed(table, OPS.stage(step), 8.0)
    np.testing.assert_allclose(x[[0, 1, 5]], weights(table)[[4, 49, 4]] * 8, rtol=1e-6)
    np.testing.assert_array_equal(x[2:5], soft)


def test_rows_that_want_logits() -> None:
    x = activations(6, 32)
    step = pack([[1, 2, 3], [4, 5, 6]], rows=[5, 0])
    got = OPS.select(x, Gain(np.full(32, 2, np.float32), 1e-6), OPS.stage(step))
    wide = x[[5, 0]].astype(np.float64)
    np.testing.assert_allclose(got, 2 * wide / np.sqrt((wide**2).mean(-1, keepdims=True) + 1e-6), rtol=1e-5)


def staged(tokens: int) -> None:
    """A step of so many tokens, whose operations come next."""
    OPS.stage(pack([[0] * tokens]))


def test_project_mixes_formats() -> None:
    """Rounded activations for packed weights, float ones for the others, norm first."""
    x, gain = activations(3, 256), np.linspace(0.5, 2, 256).astype(np.float32)
    linears = tuple(packed(FORMATS[name], 40, 256, seed=i) for i, name in enumerate(("Q4_K", "F16", "Q6_K")))
    wide = x.astype(np.float64)
    normed = (wide / np.sqrt((wide**2).mean(-1, keepdims=True) + 1e-6) * gain).astype(np.float32)
    staged(3)
    for got, linear in zip(OPS.project(x, Gain(gain, 1e-6), linears), linears, strict=True):
        assert np.abs(got - normed @ weights(linear).T).max() <= 0.03 * np.abs(got).max()


def gelu(x: np.ndarray) -> np.ndarray:
    wide = x.astype(np.float64)
    return 0.5 * wide * (1 + np.tanh(np.sqrt(2 / np.pi) * (wide + 0.044715 * wide**3)))


def merged(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """x + RMSNorm(y) with a gain of 1.5, in float64."""
    wide = y.astype(np.float64)
    return x + 1.5 * wide / np.sqrt((wide**2).mean(-1, keepdims=True) + 1e-6)


@pytest.mark.parametrize("name", ["Q8_0", "F16"])
@pytest.mark.parametrize(("tokens", "columns"), [(1, 64), (2, 96), (9, 1056)])
def test_merge(name: str, tokens: int, columns: int) -> None:
    o, x = activations(tokens, columns), activations(tokens, 96, seed=3)
    linear, norm = packed(FORMATS[name], 96, columns), Gain(np.full(96, 1.5, np.float32), 1e-6)
    staged(tokens)
    np.testing.assert_allclose(
        OPS.merge(x, o, linear, norm), merged(x, product(linear, o)), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("name", ["Q8_0", "F16"])
@pytest.mark.parametrize(("tokens", "columns"), [(1, 64), (2, 96), (9, 1056)])
def test_gate_and_merge(name: str, tokens: int, columns: int) -> None:
    """The gate is computed on its way into the product."""
    g, u, x = (activations(tokens, n, seed=i) for i, n in enumerate((columns, columns, 96)))
    g /= np.abs(g).max()
    linear, norm = packed(FORMATS[name], 96, columns), Gain(np.full(96, 1.5, np.float32), 1e-6)
    staged(tokens)
    gated = (gelu(g) * u).astype(np.float32)
    got = OPS.merge(x, OPS.gate(g, u), linear, norm)
    np.testing.assert_allclose(got, merged(x, product(linear, gated)), rtol=2e-3, atol=2e-3)


def test_gate_of_an_odd_width() -> None:
    """Widths that are no multiple of sixteen only meet float weights."""
    g, u = (activations(3, 45, seed=i) / 10 for i in (1, 2))
    identity = np.eye(45, dtype=np.float32)
    linear = made_linear(FORMATS["F32"], identity.view(np.uint8).reshape(-1), 45, 45)
    staged(3)
    zero, norm = np.zeros((3, 45), np.float32), Gain(np.ones(45, np.float32), 0.0)
    got = OPS.merge(zero, OPS.gate(g, u), linear, norm)
    want = gelu(g) * u
    np.testing.assert_allclose(got, want / np.sqrt((want**2).mean(-1, keepdims=True)), rtol=1e-4, atol=1e-5)
