"""The draw, against formulas written down a second time, over whole distributions."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest

import gemmary
from gemmary.engine.sampling import Draw, NotFiniteError, Sampler, Sampling
from gemmary.errors import GemmaryError, PromptError
from gemmary.ops.candidates import candidates
from gemmary.ops.contract import Candidates, Ints
from tests.parity.sharp import text_ids

LOGITS = np.array([2.0, 1.5, 1.4, 0.3, 0.0, -0.2, -1.0, -1.1, -2.5, -4.0, 1.45, 0.9], np.float32)
DRAWS = 2500


def log_sum_exp(logits: np.ndarray) -> float:
    x = logits.astype(np.float64)
    return float(np.log(np.exp(x - x.max()).sum()) + x.max())


def draw(sampler: Sampler, logits: np.ndarray, position: int, allowed: Any = None) -> Draw:
    lse = np.array([log_sum_exp(logits)], np.float32)
    return sampler.draw(candidates(logits[None], lse, sampler.want(allowed)), position)


def drawn(logits: np.ndarray, **options: Any) -> Counter[int]:
    """Counts of the ids drawn at many positions."""
    sampler = Sampler(Sampling(**options), [], len(logits), None)
    return Counter(draw(sampler, logits, position).id for position in range(DRAWS))


def distribution(
    logits: np.ndarray, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0
) -> np.ndarray:
    """What shall be drawn from: Hugging Face's order of filters, over plain lists."""
    weights = [math.exp(float(x) / temperature) for x in logits]
    keep = sorted(range(len(weights)), key=lambda i: -weights[i])[: top_k or None]
    total = sum(weights[i] for i in keep)
    nucleus: list[int] = []
    for i in keep:
        if sum(weights[j] for j in nucleus) < top_p * total or not nucleus:
            nucleus.append(i)
    keep = [i for i in nucleus if weights[i] >= min_p * weights[nucleus[0]]]
    result = np.zeros(len(weights))
    result[keep] = [weights[i] for i in keep]
    return result / result.sum()


def chi_square(counts: Counter[int], p: np.ndarray) -> tuple[float, float]:
    """The statistic, and its bound of 0.1 % (Wilson and Hilferty)."""
    expected = p * sum(counts.values())
    assert all(expected[i] > 0 for i in counts), "drew what must not be drawn"
    inside = expected > 0
    got = np.array([counts[i] for i in range(len(p))])[inside]
    degrees = int(inside.sum()) - 1
    bound = degrees * (1 - 2 / (9 * degrees) + 3.09 * math.sqrt(2 / (9 * degrees))) ** 3 if degrees else 1e-9
    return float(((got - expected[inside]) ** 2 / expected[inside]).sum()), bound


@pytest.mark.parametrize(
    "filters",
    [
        {},
        {"temperature": 0.5},
        {"temperature": 2.0},
        {"top_k": 1},
        {"top_k": 4},
        {"top_p": 0.6},
        {"top_p": 0.0},
        {"min_p": 0.3},
        {"temperature": 1.5, "top_k": 7, "top_p": 0.8, "min_p": 0.1},
    ],
    ids=str,
)
def test_frequencies_match_softmax(filters: dict[str, Any]) -> None:
    options = {"top_k": 0, "top_p": 1.0, **filters}
    statistic, bound = chi_square(drawn(LOGITS, seed=11, **options), distribution(LOGITS, **options))
    assert statistic <= bound


def test_frequencies_over_seeds() -> None:
    """One position, many seeds: what a user sees who asks again and again."""
    counts = Counter(
        draw(Sampler(Sampling(top_k=0, top_p=1.0, seed=seed), [], 12, None), LOGITS, 3).id
        for seed in range(DRAWS)
    )
    statistic, bound = chi_square(counts, distribution(LOGITS))
    assert statistic <= bound


def test_draw_is_argmax_of_scaled_logit_plus_noise() -> None:
    """The rule of the design, so that drafts and other devices can repeat it."""
    from gemmary.engine.noise import gumbel

    sampler = Sampler(Sampling(temperature=0.7, top_k=0, top_p=1.0, seed=99), [], 12, None)
    for position in range(300):
        noisy = LOGITS.astype(np.float64) / 0.7 + gumbel(99, position, np.arange(12, dtype=np.int32))
        assert draw(sampler, LOGITS, position).id == noisy.argmax()


def test_greedy_is_argmax_and_ties_go_to_the_smallest_id() -> None:
    sampler = Sampler(Sampling(temperature=0), [], 12, None)
    assert draw(sampler, LOGITS, 0).id == 0
    assert draw(sampler, np.array([1, 3, 3, 2], np.float32), 0).id == 1


@pytest.mark.parametrize("temperature", [1e-9, 1e-300, 5e-324])
def test_a_tiny_temperature_is_greedy(temperature: float) -> None:
    with np.errstate(invalid="raise"):
        for shift in (-3.0, 0.0, 5.0):
            sampler = Sampler(Sampling(temperature=temperature, top_k=0, top_p=1.0, seed=1), [], 12, None)
            assert draw(sampler, LOGITS + np.float32(shift), 0).id == 0


def documented(
    logits: np.ndarray, prompt: list[int], answer: list[int], s: Sampling, allowed: np.ndarray
) -> np.ndarray:
    """Every logit after bias and penalties, as the documentation of `Sampling` has it."""
    result = logits.astype(np.float64)
    for i in range(len(result)):
        result[i] += s.logit_bias.get(i, 0.0)
        if i in prompt or i in answer:
            result[i] *= 1 / s.repeat_penalty if result[i] > 0 else s.repeat_penalty
        result[i] -= s.frequency_penalty * answer.count(i)
        result[i] -= s.presence_penalty if i in answer else 0.0
    result[~allowed] = -np.inf
    return result


@pytest.mark.parametrize("case", range(40))
def test_penalties_and_bias_over_random_requests(case: int) -> None:
    """Greedy and drawn, step by step, against every logit of the vocabulary adjusted one by one.

    Few candidates and strong changes: ids outside the raw top-k climb in, ids inside fall out.
    """
    from gemmary.engine.noise import gumbel

    rng = np.random.default_rng(case)
    vocab, top_k = 60, int(rng.integers(1, 6))
    prompt = [int(i) for i in rng.integers(0, vocab, 8)]
    options: dict[str, Any] = {
        "temperature": float(rng.choice([0.0, 0.8])),
        "repeat_penalty": float(rng.choice([1.0, 1.3, 0.7])),
        "presence_penalty": float(rng.choice([0.0, 1.5, -2.0])),
        "frequency_penalty": float(rng.choice([0.0, 0.9])),
        "logit_bias": {int(i): float(rng.normal(0, 6)) for i in rng.integers(0, vocab, rng.integers(0, 5))},
    }
    sampling = Sampling(top_k=top_k, top_p=1.0, seed=case, **options)
    base = rng.random(vocab) < 0.9
    sampler, answer = Sampler(sampling, prompt, vocab, base), []
    for position in range(12):
        logits = rng.normal(0, 3, vocab).astype(np.float32)
        adjusted = documented(logits, prompt, answer, sampling, base)
        best = np.lexsort((np.arange(vocab), -adjusted))[:top_k]
        if sampling.temperature:
            noisy = adjusted[best] / sampling.temperature + gumbel(case, position, best.astype(np.int32))
            expected = int(best[noisy.argmax()])
        else:
            expected = int(best[0])
        assert draw(sampler, logits, position).id == expected
        answer.append(expected)


def test_an_id_outside_the_raw_candidates_climbs_in() -> None:
    sampler = Sampler(Sampling(top_k=2, logit_bias={9: 50.0}), [], 12, None)
    assert {draw(sampler, LOGITS, position).id for position in range(50)} == {9}


def test_a_constraint_is_kept_by_bias_too() -> None:
    """What is not allowed stays out, however strong its bias."""
    base = np.ones(12, np.bool_)
    base[9] = False
    sampler = Sampler(Sampling(logit_bias={9: 1000.0, 8: 1000.0}), [], 12, base)
    allowed = np.ones(12, np.bool_)
    allowed[8] = False
    assert {draw(sampler, LOGITS, position, allowed).id for position in range(50)} <= {*range(8), 10, 11}


def test_logprobs_are_the_models_own() -> None:
    """Not those of the filtered, biased or heated distribution; alternatives come best first."""
    own = LOGITS.astype(np.float64) - log_sum_exp(LOGITS)
    sampler = Sampler(Sampling(temperature=3.0, top_k=3, logit_bias={5: 40.0}, logprobs=4), [], 12, None)
    found = draw(sampler, LOGITS, 0)
    assert found.id == 5
    assert found.logprob == pytest.approx(own[5], abs=1e-6)
    assert [i for i, _ in found.top] == [0, 1, 10, 2]
    assert [p for _, p in found.top] == pytest.approx(own[[0, 1, 10, 2]], abs=1e-6)


def test_logprobs_offer_only_what_is_allowed() -> None:
    """Two tokens allowed, four alternatives wished for: two come, and no -inf."""
    allowed = np.zeros(12, np.bool_)
    allowed[[3, 7]] = True
    found = draw(Sampler(Sampling(logprobs=4), [], 12, None), LOGITS, 0, allowed)
    assert [i for i, _ in found.top] == [3, 7]
    assert all(math.isfinite(p) for _, p in found.top)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("column", [0, 2])
def test_not_finite_logits_are_a_typed_error(bad: float, column: int) -> None:
    logits = np.float32([[3, 2, 1]])
    logits[0, column] = bad
    found = Candidates(np.int32([[0, 1, 2]]), logits, np.float32([math.nan]))
    with pytest.raises(NotFiniteError, match="download it again"):
        Sampler(Sampling(), [], 12, None).draw(found, 0)


def test_a_sum_that_is_not_finite_is_a_typed_error_where_it_is_asked_for() -> None:
    """The head need not give one without; with log-probabilities it must be sound."""
    found = Candidates(np.int32([[0, 1, 2]]), np.float32([[3, 2, 1]]), np.float32([math.nan]))
    assert not Sampler(Sampling(), [], 12, None).want().lse
    assert Sampler(Sampling(temperature=0), [], 12, None).draw(found, 0) == Draw(0)
    asking = Sampler(Sampling(logprobs=0), [], 12, None)
    assert asking.want().lse
    with pytest.raises(NotFiniteError):
        asking.draw(found, 0)


def test_logits_that_are_nan_everywhere_are_a_typed_error() -> None:
    """Nothing is a candidate then, and that is no fault of what is allowed."""
    allowed = np.ones(12, np.bool_)
    with pytest.raises(NotFiniteError):
        draw(Sampler(Sampling(), [], 12, None), np.full(12, np.nan, np.float32), 0, allowed)


def test_nothing_allowed_is_a_typed_error() -> None:
    with pytest.raises(GemmaryError, match="no token is allowed"):
        draw(Sampler(Sampling(), [], 12, None), LOGITS, 0, np.zeros(12, np.bool_))


WRONG = [
    *(
        {name: value}
        for name in (
            "temperature", "top_p", "min_p", "repeat_penalty", "presence_penalty", "frequency_penalty",
        )
        for value in (True, np.bool_(1), math.nan, math.inf, "1", None, -1000, 1000, 10**5000, 1j, [1])
    ),
    *({name: value} for name in ("top_k", "seed") for value in (True, 1.0, "1", math.nan, [1], b"1")),
    *({"logprobs": value} for value in (True, -1, 21, 10**5000, 1.0, "1")),
    {"top_k": -1},
    {"top_k": None},
    {"repeat_penalty": 0},
    {"top_p": 1.0001},
    {"max_tokens": 0},
    {"max_tokens": True},
    {"max_tokens": 2.0},
    {"max_tokens": "9"},
    {"logit_bias": [1]},
    {"logit_bias": "x"},
    {"logit_bias": {"5": 1.0}},
    {"logit_bias": {512: 1.0}},
    {"logit_bias": {-1: 1.0}},
    {"logit_bias": {True: 1.0}},
    {"logit_bias": {5: math.nan}},
    {"logit_bias": {5: "1"}},
    {"stop": 5},
    {"stop": b"x"},
    {"stop": ""},
    {"stop": ["a", ""]},
    {"stop": [5]},
    {"stop": "\ud800"},
    {"stop": None},
]  # fmt: skip


@pytest.mark.parametrize("options", WRONG, ids=lambda options: ",".join(options))
def test_senseless_parameters_are_prompt_errors(model: gemmary.Model, options: dict[str, Any]) -> None:
    with pytest.raises(PromptError) as fault:
        model.generate([5], **{"max_tokens": 1, **options})
    assert len(str(fault.value)) < 200


@pytest.mark.parametrize(
    "options",
    [
        {"seed": 10**5000},
        {"seed": -3},
        {"seed": np.int64(3)},
        {"top_k": 10**5000},
        {"top_k": np.int32(5), "temperature": np.float32(0.5)},
        {"temperature": 100, "top_p": 0, "min_p": 1},
        {"logit_bias": {np.int64(9): np.float32(3)}},
        {"max_tokens": np.int64(1)},
        {"stop": ["a"] * 50},
    ],
    ids=lambda options: ",".join(options),
)
def test_unusual_parameters_are_taken(model: gemmary.Model, options: dict[str, Any]) -> None:
    assert len(model.generate([5], **{"max_tokens": 1, **options}).ids) <= 1


def test_logprobs_of_a_reply_are_log_softmax_of_the_models_logits(model: gemmary.Model) -> None:
    ids = text_ids(70, seed=3)
    reply = model.generate(ids, max_tokens=12, seed=5, temperature=1.7, logprobs=3, logit_bias={300: 4.0})
    logits = model.logits([*ids, *reply.ids], rows=range(len(ids) - 1, len(ids) + len(reply.ids) - 1))
    assert reply.logprobs is not None
    assert [entry.id for entry in reply.logprobs] == list(reply.ids)
    controls = sorted(model.tokenizer.controls - model.tokenizer.stops)
    for entry, row in zip(reply.logprobs, logits, strict=True):
        own = row.astype(np.float64) - log_sum_exp(row)
        assert entry.logprob == pytest.approx(own[entry.id], abs=1e-5)
        own[controls] = -np.inf
        best = np.lexsort((np.arange(len(own)), -own))[:3]
        assert [i for i, _, _ in entry.top] == best.tolist()
        assert [p for _, _, p in entry.top] == pytest.approx(own[best], abs=1e-5)
        assert entry.text == model.tokenizer.decode([entry.id])


def test_greedy_is_argmax_of_the_models_logits(model: gemmary.Model) -> None:
    ids = text_ids(60, seed=4)
    reply = model.generate(ids, max_tokens=10, temperature=0)
    logits = model.logits([*ids, *reply.ids], rows=range(len(ids) - 1, len(ids) + len(reply.ids) - 1))
    logits[:, sorted(model.tokenizer.controls - model.tokenizer.stops)] = -np.inf
    assert tuple(logits.argmax(-1)) == reply.ids


def test_control_tokens_are_never_drawn(model: gemmary.Model) -> None:
    """Not even where the model wants nothing else: <bos>, <pad>, <start_of_turn> stay out."""
    controls = model.tokenizer.controls - model.tokenizer.stops
    wishes = dict.fromkeys(controls, 1e6)
    reply = model.generate([5], max_tokens=30, seed=1, top_k=0, top_p=1.0, temperature=3, logit_bias=wishes)
    assert not controls & set(reply.ids)
    assert len(controls) == 4


def ids_of(want_ids: Ints | None) -> list[int]:
    return [] if want_ids is None else want_ids.tolist()


def test_the_head_is_asked_for_little() -> None:
    """Without penalties the request stays small whatever was said; with them it grows with the text."""
    plain = Sampler(Sampling(), text_ids(100), 512, None)
    assert (plain.want().k, ids_of(plain.want().also)) == (64, [])
    greedy = Sampler(Sampling(temperature=0, logprobs=5), text_ids(100), 512, None)
    assert greedy.want().k == 5
    biased = Sampler(Sampling(top_k=3, logit_bias={9: 1.0}), [], 512, None)
    assert (biased.want().k, ids_of(biased.want().also)) == (4, [9])
