"""How the next token is chosen: the parameters of a request and the draw itself."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ..errors import GemmaryError, PromptError
from ..ops.contract import Candidates, TopK
from .noise import gumbel

MAX_LOGPROBS = 20


@dataclass(frozen=True)
class Sampling:
    """The sampling parameters of a request. Temperature 0 is greedy; top_k 0 keeps every token.

    Order: logit_bias, repeat_penalty (prompt and answer; 1 = off), presence and frequency penalty (answer only),
    then temperature, top_k, top_p, min_p, as Hugging Face does it.
    """

    temperature: float = 1.0
    top_k: int = 64
    top_p: float = 0.95
    min_p: float = 0.0
    repeat_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int = 0
    logprobs: int | None = None

    def check(self, vocab: int) -> None:
        """PromptError where a value makes no sense for a vocabulary of `vocab` tokens."""
        _between("temperature", self.temperature, 0.0, 100.0)
        _whole("top_k", self.top_k, 0, None)
        _between("top_p", self.top_p, 0.0, 1.0)
        _between("min_p", self.min_p, 0.0, 1.0)
        _between("repeat_penalty", self.repeat_penalty, 0.01, 100.0)
        _between("presence_penalty", self.presence_penalty, -100.0, 100.0)
        _between("frequency_penalty", self.frequency_penalty, -100.0, 100.0)
        _whole("seed", self.seed, None, None)
        if self.logprobs is not None:
            _whole("logprobs", self.logprobs, 0, MAX_LOGPROBS)
        for token, bias in self.logit_bias.items():
            _whole("a logit_bias id", token, 0, vocab - 1)
            _between("a logit_bias value", bias, -1e6, 1e6)


def _between(name: str, value: object, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise PromptError(f"{name} must be a number from {low:g} to {high:g}, not {value!r}")


def _whole(name: str, value: object, low: int | None, high: int | None) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise PromptError(f"{name} must be a whole number, not {value!r}")
    if (low is not None and value < low) or (high is not None and value > high):
        bounds = f"at least {low}" if high is None else f"from {low} to {high}"
        raise PromptError(f"{name} must be {bounds}, not {value}")


@dataclass(frozen=True)
class Draw:
    """A chosen token: its log-probability under the model's own distribution, and the best alternatives."""

    id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


class Sampler:
    """Draws the tokens of one request. Holds the counts that penalties need."""

    def __init__(
        self, sampling: Sampling, prompt: list[int], vocab: int, base_allowed: npt.NDArray[np.bool_] | None
    ) -> None:
        self.sampling = sampling
        self._seen = set(prompt) if sampling.repeat_penalty != 1.0 else set()
        self._counts: Counter[int] = Counter()
        self._vocab = vocab
        self._allowed = base_allowed

    def want(self, allowed: npt.NDArray[np.bool_] | None = None) -> TopK:
        """What to ask of the head so that the draw is exact: adjusted ids may fall out of, or climb into, the k."""
        s = self.sampling
        k = 1 if s.temperature == 0 else (s.top_k or self._vocab)
        also = np.array(sorted(self._adjusted()), np.int32)
        k = min(self._vocab, max(k, s.logprobs or 0) + len(also))
        return TopK(k, self._both(allowed), also if len(also) else None)

    def draw(self, found: Candidates, position: int) -> Draw:
        """Choose from one row of candidates (R = 1). GemmaryError on NaN logits or an empty choice."""
        ids, logits, lse = found.ids[0], found.logits[0].astype(np.float64), float(found.lse[0])
        if not math.isfinite(lse):
            raise GemmaryError(
                "the model produced numbers that are not finite: the file is damaged or not a Gemma 3 model; "
                "download it again"
            )
        open_ = np.isfinite(logits)
        if not open_.any():
            raise GemmaryError("no token is allowed here: the constraints of this request contradict each other")
        chosen = self._choose(ids[open_], logits[open_], position)
        self._counts[chosen] += 1
        logprob = float(logits[open_][ids[open_] == chosen][0] - lse)
        return Draw(chosen, logprob, self._top(ids, logits, lse))

    def _top(self, ids: np.ndarray, logits: np.ndarray, lse: float) -> tuple[tuple[int, float], ...]:
        count = self.sampling.logprobs or 0
        return tuple((int(i), float(x - lse)) for i, x in zip(ids[:count], logits[:count], strict=True))

    def _choose(self, ids: np.ndarray, logits: np.ndarray, position: int) -> int:
        adjusted = self._adjust(ids, logits)
        order = np.lexsort((ids, -adjusted))
        ids, adjusted = ids[order], adjusted[order]
        s = self.sampling
        if s.temperature == 0:
            return int(ids[0])
        scaled = adjusted[: s.top_k or None] / s.temperature
        scaled = scaled[: _kept(scaled, s.top_p, s.min_p)]
        return int(ids[np.argmax(scaled + gumbel(s.seed, position, ids[: len(scaled)]))])

    def _adjusted(self) -> set[int]:
        s = self.sampling
        ids = set(s.logit_bias) | self._seen
        if s.repeat_penalty != 1.0 or s.presence_penalty or s.frequency_penalty:
            ids |= set(self._counts)
        return ids

    def _adjust(self, ids: np.ndarray, logits: np.ndarray) -> np.ndarray:
        touched = self._adjusted()
        if not touched:
            return logits
        return np.array([self._one(int(i), x) if int(i) in touched else x for i, x in zip(ids, logits, strict=True)])

    def _one(self, token: int, logit: float) -> float:
        s, count = self.sampling, self._counts[token]
        logit += s.logit_bias.get(token, 0.0)
        if count or token in self._seen:
            logit = logit / s.repeat_penalty if logit > 0 else logit * s.repeat_penalty
        return logit - s.frequency_penalty * count - (s.presence_penalty if count else 0.0)

    def _both(self, allowed: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.bool_] | None:
        if allowed is None or self._allowed is None:
            return self._allowed if allowed is None else allowed
        return allowed & self._allowed


def _kept(scaled: np.ndarray, top_p: float, min_p: float) -> int:
    """How many of the sorted candidates stay: the smallest set that reaches top_p, all >= min_p * best."""
    p = np.exp(scaled - scaled[0])
    p /= p.sum()
    before = np.cumsum(p) - p
    return max(1, int(np.count_nonzero((before < top_p) & (p >= min_p * p[0]))))
