"""Sampled targets: the whole distribution when all is drawn, unbiased where claimed, or how biased."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from gemmary.train.loss import chunked_cross_entropy
from gemmary.train.objective import targets
from gemmary.train.sampling import Distillation, Sampled, sample

COUNTS = {"reading": "counts", "replacement": True}


def logits(tokens: int, vocab: int, spread: float = 2.0) -> torch.Tensor:
    return torch.randn(tokens, vocab, generator=torch.Generator().manual_seed(2)).double() * spread


def spread_out(found: Sampled, vocab: int) -> torch.Tensor:
    """Amounts over the whole vocabulary [R, V]."""
    return torch.zeros(len(found.ids), vocab).double().scatter_add(1, found.ids, found.amounts.double())


def zipf(vocab: int) -> torch.Tensor:
    """A long-tailed distribution, as of words: p of rank r is as 1 / r."""
    return -torch.arange(1, vocab + 1).double().log()


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_all_of_the_vocabulary_drawn_is_dense_distillation(temperature: float) -> None:
    dice = torch.Generator().manual_seed(0)
    teacher = logits(11, 40)
    h, table = (torch.randn(*size, generator=dice).double().requires_grad_() for size in ((11, 8), (40, 8)))
    weights = torch.rand(11, generator=dice).double()
    how = Distillation(draws=40, temperature=temperature)
    pulls = targets(torch.zeros(11, dtype=torch.int64), sample(teacher, torch.arange(11), how), how, 0.0)
    p = (teacher / temperature).softmax(-1)
    kl = torch.nn.functional.kl_div((h @ table.T / temperature).log_softmax(-1), p, reduction="none").sum(-1)
    truth = (weights * kl).sum() * temperature**2
    entropy = -(weights * (p * p.log()).sum(-1)).sum() * temperature**2
    ours = chunked_cross_entropy(h, table, pulls, weights, 3)
    torch.testing.assert_close(ours - entropy, truth, rtol=1e-11, atol=1e-11)
    for mine, theirs in zip(*(torch.autograd.grad(loss, (h, table)) for loss in (ours, truth)), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


def test_without_replacement_draws_come_as_from_an_urn() -> None:
    """Two of four: the chance of each pair is that of drawing one, then one of the rest."""
    p = torch.tensor([0.5, 0.3, 0.15, 0.05]).double()
    count = 20_000
    found = sample(p.log().expand(count, 4), torch.arange(count), Distillation(draws=2)).ids
    for a, b in itertools.combinations(range(4), 2):
        chance = float(p[a] * p[b] / (1 - p[a]) + p[b] * p[a] / (1 - p[b]))
        seen = float(((found[:, 0] == a) & (found[:, 1] == b)).double().mean())
        assert abs(seen - chance) < 4 * (chance * (1 - chance) / count) ** 0.5


@pytest.mark.parametrize("replacement", [False, True])
def test_renormalised_amounts_are_the_teachers_ratios(replacement: bool) -> None:
    p = logits(50, 300).softmax(-1)
    found = sample(p.log(), torch.arange(50), Distillation(draws=20, replacement=replacement))
    torch.testing.assert_close(found.amounts.sum(-1), torch.ones(50).double())
    kept = found.amounts > 0
    ratio = torch.where(kept, found.amounts / p.gather(1, found.ids), 0.0)
    covered = (p.gather(1, found.ids) * kept).sum(-1, keepdim=True)
    torch.testing.assert_close(ratio, kept / covered)
    assert (kept.sum(-1) == 20).all() if not replacement else (kept.sum(-1) < 20).any()


def test_counts_are_whole_draws_and_one_draw_is_one_id() -> None:
    found = sample(logits(50, 300), torch.arange(50), Distillation(draws=256, **COUNTS))
    counts = found.amounts * 256
    assert torch.equal(counts, counts.round()) and (counts.sum(-1) == 256).all()
    assert ((found.ids.diff() > 0) | (counts[:, 1:] == 0)).all()  # each id once, ascending
    single = sample(logits(50, 300), torch.arange(50), Distillation(draws=1, **COUNTS))
    assert single.ids.shape == (50, 1) and (single.amounts == 1).all()


def mean_gradient(how: Distillation, p: torch.Tensor, repeats: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Over many draws of one target, by h: how far the mean is off the dense gradient; its standard error."""
    dice = torch.Generator().manual_seed(1)
    table = torch.randn(len(p), 6, generator=dice).double()
    h = torch.randn(1, 6, generator=dice).double().repeat(repeats, 1).requires_grad_()
    found = sample(p.log().expand(repeats, -1), torch.arange(repeats), how)
    pulls = targets(torch.zeros(repeats, dtype=torch.int64), found, how, 0.0)
    loss = chunked_cross_entropy(h, table, pulls, torch.ones(repeats).double())
    (slopes,) = torch.autograd.grad(loss, h)
    exact = ((h[:1] @ table.T).softmax(-1) - p) @ table
    return (slopes.mean(0) - exact[0]).detach(), slopes.std(0) / repeats**0.5


def test_the_mean_gradient_of_counts_is_the_dense_gradient() -> None:
    p = zipf(200).softmax(-1)
    off, error = mean_gradient(Distillation(draws=8, **COUNTS), p, 10_000)
    assert (off.abs() < 4 * error).all()
    biased, error = mean_gradient(Distillation(draws=8), p, 10_000)
    assert (biased.abs() > 10 * error).any()  # so this test can tell


def test_how_biased_the_renormalised_reading_is() -> None:
    """What was not drawn is shared out: on 1/r with V = 4096, K = 64 the likeliest id gets 2.6 times its own.

    The reference is the urn in continuous time: id i is out by time s with the chance 1 - exp(-s p_i), and
    s is when 64 are out. docs/train.md has the number for V = 262,144.
    """
    vocab, repeats = 4096, 600
    p = zipf(vocab).softmax(-1)
    many = p.log().expand(repeats, -1)
    excess = {}
    for name, how in {"renormalised": {}, "counts": COUNTS}.items():
        found = sample(many, torch.arange(repeats), Distillation(draws=64, **how))
        excess[name] = float(spread_out(found, vocab)[:, 0].mean() / p[0]) - 1
    time = max(np.linspace(1, 500, 5000), key=lambda s: -abs(float((1 - (-s * p).exp()).sum()) - 64))
    covered = float((p * (1 - (-time * p).exp())).sum())
    assert excess["renormalised"] == pytest.approx(1 / covered - 1, rel=0.03)
    assert excess["renormalised"] == pytest.approx(1.58, abs=0.05)
    assert abs(excess["counts"]) < 4 * ((1 - float(p[0])) / float(p[0]) / 64 / repeats) ** 0.5


def test_a_tokens_draws_do_not_depend_on_the_tokens_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    given, places = logits(30, 50), torch.arange(30) * 7
    for options in ({}, COUNTS):
        how = Distillation(draws=9, seed=3, **options)
        whole = spread_out(sample(given, places, how), 50)
        mixed = torch.tensor([4, 29, 0])
        assert torch.equal(spread_out(sample(given[mixed], places[mixed], how), 50), whole[mixed])
        with monkeypatch.context() as small:
            small.setattr("gemmary.train.sampling.LOGITS", 8 * 50 * 4)
            assert torch.equal(spread_out(sample(given, places, how), 50), whole)
        other = Distillation(draws=9, seed=4, **options)
        assert not torch.equal(spread_out(sample(given, places, other), 50), whole)


def test_impossible_ids_are_never_drawn() -> None:
    given = logits(200, 30)
    given[:, ::2] = -torch.inf
    for options in ({"replacement": True}, COUNTS, {}):
        found = sample(given, torch.arange(200), Distillation(draws=20, **options))
        assert (found.ids[found.amounts > 0] % 2 == 1).all()
        assert np.allclose(found.amounts.sum(-1), 1)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_mixing_is_the_weighted_sum_of_both_losses(temperature: float) -> None:
    dice = torch.Generator().manual_seed(0)
    h, table = (torch.randn(*size, generator=dice).double().requires_grad_() for size in ((30, 8), (20, 8)))
    labels, weights = torch.randint(20, (30,), generator=dice), torch.rand(30, generator=dice).double()
    how = Distillation(draws=8, share=0.3, temperature=temperature)
    alone = Distillation(draws=8, temperature=temperature)
    found = sample(logits(30, 20), torch.arange(30), how)
    both = targets(labels, found, how, 1e-3)
    for target in both:  # no id may count twice: float sums would depend on the order of threads
        for ids, amounts in zip(target.ids, target.amounts, strict=True):
            assert len(set(ids[amounts > 0].tolist())) == int((amounts > 0).sum())

    def loss(pulls: list) -> torch.Tensor:  # type: ignore[type-arg]
        return chunked_cross_entropy(h, table, pulls, weights)

    hard, z = loss(targets(labels, None, None, 0.0)), loss(targets(labels, None, None, 1e-3))
    wanted = 0.3 * loss(targets(labels, found, alone, 0.0)) + 0.7 * hard + (z - hard)
    torch.testing.assert_close(loss(both), wanted, rtol=1e-12, atol=0)
    for mine, theirs in zip(*(torch.autograd.grad(x, (h, table)) for x in (loss(both), wanted)), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "wrong",
    [{"reading": "top"}, {"reading": "counts"}, {"draws": 0}, {"temperature": 0.0}, {"share": 1.5}],
)
def test_wrong_options_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"choose|replacement|must be"):
        Distillation(**wrong)  # type: ignore[arg-type]
