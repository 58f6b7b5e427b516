"""A second, smaller model with the same vocabulary guesses what the first one will say.

It draws by the same rule with the same seed, so where the two models agree on the odds, they agree on the
token: also at temperature 1 (design, section 3). Its own pages follow the text; guesses are run ahead of them
and committed only as far as they came true.
"""

from __future__ import annotations

import time
from collections.abc import Sequence as Ids
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ..errors import MemoryBudgetError, UnsupportedModelError
from ..inputs.tokenizer import Tokenizer
from ..model.pages import Sequence
from ..weights.assemble import packed_text
from ..weights.checkpoint import Checkpoint
from .choices import choices
from .memory import choose_context, pool_pages
from .request import Request
from .runner import Runner
from .sampling import NotFiniteError, Sampler
from .speculation import Timing
from .thread import EngineThread


class Drafter:
    """The second model. Called from the engine thread only."""

    def __init__(self, runner: Runner, allowed: npt.NDArray[np.bool_]) -> None:
        """`allowed` bool [V of this model]: what it may guess."""
        self.runner = runner
        self.allowed = allowed
        self.timing = Timing()

    def follow(self, request: Request, ids: Ids[int]) -> Follower:
        """A proposer for one text, which may grow at the end."""
        return Follower(self, request, ids)


class Follower:
    """The second model's view of one text. `finish` gives its pages back."""

    name = "drafter"

    def __init__(self, drafter: Drafter, request: Request, ids: Ids[int]) -> None:
        """`ids` is kept, not copied: what is appended to it is seen."""
        self._drafter = drafter
        self._runner = drafter.runner
        self._cancel = request.cancel
        self._stops = request.stops
        self._ids = ids
        self._sampler = _sampler(request, drafter)
        self._taken = len(request.ids)  # tokens that the sampler knows of
        self._sequence = Sequence()
        self._ahead: list[int] = []  # guesses that were run, behind the committed tokens
        self._able = True
        self._runner.start(ids, self._sequence)

    @property
    def seconds(self) -> float | None:
        """What a guessed token costs."""
        timing = self._drafter.timing
        return timing.seconds if len(timing) else None

    @property
    def ready(self) -> bool:
        """Whether less than a chunk of the text is unread."""
        return len(self._ids) - self._sequence.length <= self._runner.chunk

    def grade(self) -> int | None:
        """All its guesses are of one grade. None where its context or its memory is used up."""
        return 0 if self._able and len(self._ids) < self._runner.context else None

    def read(self) -> None:
        """Run a chunk of the text."""
        try:
            self._settle()
            part = self._unread()[: self._runner.chunk]
            self._runner.step(self._sequence, part, [len(part) - 1], self._cancel)
        except _UNABLE:
            self._give_up()

    def propose(self, count: int) -> list[int]:
        """`count` tokens, or fewer where the context ends, or a guess would end the text."""
        guesses: list[int] = []
        started = time.perf_counter()
        try:
            self._settle()
            while len(guesses) < min(count, self._runner.context - len(self._ids)):
                guesses.append(self._guess(guesses))
                if guesses[-1] in self._stops:
                    break
        except _UNABLE:
            self._give_up()
        if guesses:
            self._drafter.timing.add((time.perf_counter() - started) / len(guesses))
        for guess in guesses:
            self._sampler.give_back(guess)
        return guesses

    def finish(self) -> None:
        """Remember the text for the next turn, and give the pages back."""
        self._runner.keep(self._ids, self._sequence)
        self._runner.finish(self._sequence)

    def _settle(self) -> None:
        """Commit the guesses that came true, forget the others, and count what was said since."""
        if self._ahead:
            right = 0
            for guess, said in zip(self._ahead, self._ids[self._sequence.length :], strict=False):
                if guess != said:
                    break
                right += 1
            self._ahead = []
            self._runner.accept(self._sequence, right)
        for token in self._ids[self._taken :]:
            self._sampler.take(token)
        self._taken = len(self._ids)

    def _guess(self, guesses: list[int]) -> int:
        """One token behind the text and the guesses so far."""
        runner, sequence = self._runner, self._sequence
        if guesses:
            states = runner.ahead(sequence, guesses[-1:], [0], self._cancel, len(self._ahead))
            self._ahead.append(guesses[-1])
        else:
            part = self._unread()
            states = runner.step(sequence, part, [len(part) - 1], self._cancel)
        found = runner.head(states, self._sampler.want())
        return self._sampler.draw(found, len(self._ids) + len(guesses)).id

    def _unread(self) -> Ids[int]:
        """What is not committed of the text: at least its last token, which was drawn by the other model."""
        part = self._ids[self._sequence.length :]
        if max(part) >= self._runner.config.vocab or min(part) < 0:
            raise _UnknownTokenError
        return part

    def _give_up(self) -> None:
        """Guess no more; the text goes on without."""
        self._able = False
        self._runner.finish(self._sequence)


class _UnknownTokenError(Exception):
    """The text has a token that this model has no row for, or a picture."""


_UNABLE = (MemoryBudgetError, NotFiniteError, _UnknownTokenError)


def build_drafter(
    checkpoint: Checkpoint,
    tokenizers: tuple[Tokenizer, Tokenizer],
    thread: EngineThread,
    context: int,
    memory: int,
) -> Drafter:
    """A drafter from a checkpoint, whose computations run on `thread`.

    tokenizers: the checkpoint's own, and that of the model that it shall draft for. context: tokens of a text
    there. memory: bytes that are left for weights and pages. UnsupportedModelError where the vocabularies
    differ, MemoryBudgetError where it does not fit.
    """
    check_same_vocabulary(checkpoint.path, *tokenizers)
    config, weights = checkpoint.config, sum(len(tensor.raw) for tensor in checkpoint.tensors.values())
    tokens = choose_context(config, weights, min(context, config.context), memory)
    capacity = pool_pages(config, tokens, memory - weights)
    runner = thread.run(lambda: Runner(packed_text(checkpoint), config, tokens, capacity))
    return Drafter(runner, choices(tokenizers[0], config.vocab))


def check_same_vocabulary(path: object, draft: Tokenizer, target: Tokenizer) -> None:
    """UnsupportedModelError unless every id means the same to both; padding at the end may differ."""
    if draft.stops == target.stops and draft.bos == target.bos:
        ids = range(max(draft.vocab, target.vocab))
        if all(_meaning(draft, i) == _meaning(target, i) for i in ids):
            return
    raise UnsupportedModelError(
        f"{path}: this model has another vocabulary than the one that it shall draft for: "
        "choose a smaller model of the same family, or leave the draft model out"
    )


def _meaning(tokenizer: Tokenizer, token: int) -> tuple[bytes, bool]:
    return tokenizer.piece_bytes(token), tokenizer.is_control(token)


def _sampler(request: Request, drafter: Drafter) -> Sampler:
    """The request's own rule, for the rows that the smaller model has."""
    vocab, sampling = drafter.runner.config.vocab, request.sampler.sampling
    bias = {token: value for token, value in sampling.logit_bias.items() if token < vocab}
    known = [token for token in request.ids if 0 <= token < vocab]
    return Sampler(replace(sampling, logit_bias=bias, logprobs=None), known, vocab, drafter.allowed)
