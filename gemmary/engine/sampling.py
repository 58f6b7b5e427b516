"""How the next token is chosen: the parameters of a request and the draw itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ..errors import GemmaryError, PromptError
from ..ops.contract import Candidates, TopK
from .noise import gumbel
from .penalties import Penalties

MAX_LOGPROBS = 20
_NUMBERS = (int, float, np.integer, np.floating)


class NotFiniteError(GemmaryError):
    """The model computed NaN or infinity."""

    def __init__(self) -> None:
        super().__init__(
            "the model produced numbers that are not finite: the file is damaged or not a Gemma 3 model; "
            "download it again"
        )


@dataclass(frozen=True)
class Sampling:
    """The sampling parameters of a request. Temperature 0 is greedy; top_k 0 keeps every token.

    Order: logit_bias is added; repeat_penalty (of prompt and answer; 1 = off) divides a positive logit and
    multiplies a negative one; frequency_penalty times the token's count in the answer, and presence_penalty
    if it has been there, are subtracted. Then temperature, top_k, top_p, min_p, as Hugging Face does it.
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
        check_number("temperature", self.temperature, 0.0, 100.0)
        check_whole("top_k", self.top_k, 0)
        check_number("top_p", self.top_p, 0.0, 1.0)
        check_number("min_p", self.min_p, 0.0, 1.0)
        check_number("repeat_penalty", self.repeat_penalty, 0.01, 100.0)
        check_number("presence_penalty", self.presence_penalty, -100.0, 100.0)
        check_number("frequency_penalty", self.frequency_penalty, -100.0, 100.0)
        check_whole("seed", self.seed)
        if self.logprobs is not None:
            check_whole("logprobs", self.logprobs, 0, MAX_LOGPROBS)
        if not isinstance(self.logit_bias, Mapping):
            raise PromptError("logit_bias must map token ids to numbers, such as {42: -100}")
        for token, bias in self.logit_bias.items():
            check_whole("an id in logit_bias", token, 0, vocab - 1)
            check_number("a number in logit_bias", bias, -1e6, 1e6)


def check_number(name: str, value: object, low: float, high: float) -> None:
    """PromptError unless `value` is a number from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, _NUMBERS) or not low <= value <= high:
        raise PromptError(f"{name} must be a number from {low:g} to {high:g}, not {_shown(value)}")


def check_whole(name: str, value: object, low: int | None = None, high: int | None = None) -> None:
    """PromptError unless `value` is an integer from `low` to `high` (None: without a bound)."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise PromptError(f"{name} must be a whole number, not {_shown(value)}")
    if (low is not None and value < low) or (high is not None and value > high):
        bounds = f"at least {low}" if high is None else f"from {low} to {high}"
        raise PromptError(f"{name} must be {bounds}, not {_shown(value)}")


def _shown(value: object) -> str:
    """A wrong value as an error quotes it: kinds of things that could be long are only named."""
    short = isinstance(value, float | str | bool | None) or (isinstance(value, int) and abs(value) < 1e18)
    return repr(value)[:40] if short else f"a value of type {type(value).__name__}"


@dataclass(frozen=True)
class Draw:
    """A chosen token. Where log-probabilities were asked for: its own, and those of the best alternatives."""

    id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


class Sampler:
    """Draws the tokens of one request. Holds the counts that penalties need."""

    def __init__(
        self, sampling: Sampling, prompt: list[int], vocab: int, base_allowed: npt.NDArray[np.bool_] | None
    ) -> None:
        """`base_allowed` bool [V] are the tokens that may be drawn at all; None: every one."""
        self.sampling = sampling
        self._penalties = Penalties(sampling, prompt, vocab) if Penalties.needed(sampling) else None
        self._vocab = vocab
        self._allowed = base_allowed

    def want(self, allowed: npt.NDArray[np.bool_] | None = None, drafts: Sequence[int] = ()) -> TopK:
        """What to ask of the head for an exact draw: adjusted ids may fall out of, or climb into, the k.

        The answer serves the rows behind `drafts`, too, as far as these are what is drawn. GemmaryError where
        nothing is allowed.
        """
        s = self.sampling
        k = 1 if s.temperature == 0 else (s.top_k or self._vocab)
        also = self._penalties.ids(drafts) if self._penalties else np.zeros(0, np.int32)
        k = min(self._vocab, max(k, s.logprobs or 0) + len(also))
        return TopK(k, self._both(allowed), also if len(also) else None, lse=s.logprobs is not None)

    def draw(self, found: Candidates, position: int, row: int = 0) -> Draw:
        """Choose from a row of candidates, and count what was chosen.

        NotFiniteError on NaN or infinite logits, as far as the candidates show them.
        """
        logits = found.logits[row].astype(np.float64)
        _check_finite(float(logits.max()))
        known = np.count_nonzero(logits > -np.inf)  # the others stand behind
        ids, logits = found.ids[row][:known], logits[:known]
        chosen = self._choose(ids, logits, position)
        if self._penalties:
            self._penalties.count(chosen)
        if self.sampling.logprobs is None:
            return Draw(chosen)
        lse, count = float(found.lse[row]), self.sampling.logprobs
        _check_finite(lse)
        top = tuple((int(i), float(x - lse)) for i, x in zip(ids[:count], logits[:count], strict=True))
        return Draw(chosen, float(logits[ids == chosen][0] - lse), top)

    def take(self, token: int) -> None:
        """Count a token that somebody else drew."""
        if self._penalties:
            self._penalties.count(token)

    def give_back(self, token: int) -> None:
        """A token that was counted is not part of the text after all."""
        if self._penalties:
            self._penalties.uncount(token)

    def _choose(self, ids: np.ndarray, logits: np.ndarray, position: int) -> int:
        if self._penalties:
            logits = self._penalties.adjust(ids, logits)
            order = np.lexsort((ids, -logits))
            ids, logits = ids[order], logits[order]
        s = self.sampling
        if s.temperature == 0:
            return int(ids[0])
        with np.errstate(over="ignore"):  # at a tiny temperature everything but the best is -inf
            scaled = (logits[: s.top_k or None] - logits[0]) / s.temperature
        scaled = scaled[: _kept(scaled, s.top_p, s.min_p)]
        return int(ids[np.argmax(scaled + gumbel(s.seed, position, ids[: len(scaled)]))])

    def _both(self, allowed: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.bool_] | None:
        if allowed is None:
            return self._allowed
        both = allowed if self._allowed is None else allowed & self._allowed
        if not both.any():
            raise GemmaryError("no token is allowed here: loosen what limits the answer, such as its schema")
        return both


def _check_finite(value: float) -> None:
    if not math.isfinite(value):
        raise NotFiniteError


def _kept(scaled: np.ndarray, top_p: float, min_p: float) -> int:
    """How many of the sorted candidates stay: the smallest set that reaches top_p, all >= min_p * best."""
    p = np.exp(scaled)
    p /= p.sum()
    keep = p >= min_p * p[0]
    if top_p < 1:  # at 1 nothing may be lost to rounding
        keep &= np.cumsum(p) - p < top_p
    return max(1, int(np.count_nonzero(keep)))
