"""Distillation from sampled logits: what a student learns of its teacher's distribution.

Gemma 3 report, section 2: "We sample 256 logits per token, weighted by teacher probabilities. The student
learns the teacher's distribution within these samples via cross-entropy loss. The teacher's target
distribution is set to zero probability for non-sampled logits, and renormalized." That leaves two readings:

- "renormalised": the teacher's probabilities of the distinct sampled ids, divided by their sum. Closest to
  the text; biased towards likely ids, because what was not sampled is shared out among what was.
- "counts": drawn with replacement; the target of an id is how often it came, divided by the draws. Unbiased:
  the expected gradient is that of the whole distribution (arXiv 2503.16870, "random sampling KD").

Neither is top-k: the k likeliest ids are the same ones at every draw. R tokens, K draws, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

from .counter import uniform
from .loss import LOGITS

Tensor = torch.Tensor
READINGS = ("renormalised", "counts")


@dataclass(frozen=True)
class Distillation:
    """How to learn from a teacher. The report says neither `temperature` nor `share`; 1 is to leave them out.

    `draws`: K. `replacement`: whether an id can be drawn twice; the counts reading needs it. Both
    distributions are taken at `temperature`, and the loss is multiplied by its square (Hinton et al., 2015).
    `share`: weight of the teacher; 1 - share is that of the text's own next token. A token's draws are a
    function of `seed` and its place in the data: they are the same in every epoch.
    """

    draws: int = 256
    reading: str = "renormalised"
    replacement: bool = False
    temperature: float = 1.0
    share: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.reading not in READINGS:
            raise ValueError(f'reading "{self.reading}" is unknown; choose one of {", ".join(READINGS)}')
        if self.reading == "counts" and not self.replacement:
            raise ValueError("counts need draws with replacement: set replacement=True")
        if self.draws < 1 or not self.temperature > 0 or not 0 <= self.share <= 1:
            raise ValueError("draws must be 1 or more, temperature above 0, share between 0 and 1")


class Sampled(NamedTuple):
    """A teacher's target for R tokens: distinct ids int64 [R, K], amounts [R, K] that sum to 1 a token.

    Ids ascend. Where there are fewer than K, the rest are id 0 with amount 0.
    """

    ids: Tensor
    amounts: Tensor


def sample(logits: Tensor, tokens: Tensor, how: Distillation) -> Sampled:
    """Draw from the softmax of `logits` [R, V] (float32 or float64) for `tokens` int64 [R], few at a time."""
    rows = max(1, LOGITS // (8 * logits.shape[1]))  # what sampling holds is 8 times larger than logits
    parts = [_sample(*part, how) for part in zip(logits.split(rows), tokens.split(rows), strict=True)]
    return Sampled(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _sample(logits: Tensor, tokens: Tensor, how: Distillation) -> Sampled:
    p = (logits / how.temperature).softmax(-1)
    if not how.replacement:
        ids = _without_replacement(p, tokens, how).sort(-1).values
        return _renormalised(p, ids, torch.ones_like(ids))
    ids, counts = _distinct(_with_replacement(p, tokens, how))
    if how.reading == "counts":
        return Sampled(ids, counts.to(p.dtype) / how.draws)
    return _renormalised(p, ids, counts)


def _with_replacement(p: Tensor, tokens: Tensor, how: Distillation) -> Tensor:
    """`draws` ids a token, by the inverse of the cumulated probabilities, ascending."""
    edges = p.double().cumsum(-1)
    where = uniform(how.seed, tokens, how.draws).sort(-1).values * edges[:, -1:]
    return torch.searchsorted(edges, where, right=True).clamp_(max=p.shape[1] - 1)


def _without_replacement(p: Tensor, tokens: Tensor, how: Distillation) -> Tensor:
    """min(draws, V) different ids a token, one by one from what is left: the top of ln p + Gumbel noise."""
    score = uniform(how.seed, tokens, p.shape[1]).log_().neg_().log_().neg_().add_(p.log())
    return score.topk(min(how.draws, p.shape[1]), sorted=False).indices


def _distinct(ids: Tensor) -> tuple[Tensor, Tensor]:
    """Ascending ids [R, K] with repeats -> each once, and how often it came; the rest are id 0, 0 times."""
    place = torch.zeros_like(ids)
    place[:, 1:] = (ids[:, 1:] != ids[:, :-1]).cumsum(-1)
    counts = torch.zeros_like(ids).scatter_add_(1, place, torch.ones_like(ids))
    return torch.zeros_like(ids).scatter_(1, place, ids), counts


def _renormalised(p: Tensor, ids: Tensor, counts: Tensor) -> Sampled:
    amounts = torch.where(counts > 0, p.gather(1, ids), 0.0)
    return Sampled(ids, amounts / amounts.sum(-1, keepdim=True))
