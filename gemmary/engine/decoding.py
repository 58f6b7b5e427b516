"""One running text, on the engine thread: its tokens, its pages, and how the next tokens come about.

This is the oracle with its shortcut beside it. Without guesses a step appends one token and draws the next.
With guesses it appends the last token and all of them, and draws at each row in order, by the same rule, as
long as what is drawn is what was guessed; the rest is rolled back. A row has the same bits in both cases, and
a draw depends on nothing else but the draws before it: so the text is the same, whoever guessed, and whether.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..model.pages import Sequence
from .lookup import Lookup
from .request import End, Request, Run
from .runner import Runner
from .sampling import Draw
from .speculation import Proposer, Speculation

_BURST_SECONDS = 0.01  # quick steps are done several at a time: handing one over takes 0.1 to 0.2 ms

Look = Callable[[int], Draw]


@dataclass
class Burst:
    """Draws in order; none where the time went into reading for a proposer.

    end: why the last of them ends the text. stopped: a stop token came behind them.
    """

    draws: list[Draw] = field(default_factory=list)
    end: End | None = None
    stopped: bool = False

    @property
    def over(self) -> bool:
        """Whether nothing may follow."""
        return self.stopped or self.end is not None


class Decoding:
    """The text of one request. All methods are called in the engine thread; `length` and `shown` may be used
    by the caller's thread while it is idle. shown: draws that somebody has seen.
    """

    def __init__(self, runner: Runner, request: Request, run: Run) -> None:
        self.shown = 0
        self._runner = runner
        self._request = request
        self._run = run
        self._ids = list(request.ids)
        self._sequence = Sequence()
        self._ahead = 0  # tokens of the text that were run behind the committed ones
        self._states: Any = None  # of the prompt's last token, until the first draw
        self._speculation: Speculation | None = None
        self._fault: Exception | None = None

    @property
    def length(self) -> int:
        """Tokens that are committed."""
        return self._sequence.length

    def start(self) -> None:
        """Take what is known of the prompt."""
        self._run.cached = self._runner.start(self._ids, self._sequence, self._request.key)
        if self._request.speculate and self._runner.exact:
            known = self._runner.free if self._request.constraint is None else self._runner.bound
            self._speculation = Speculation(known, self._proposers())

    def read(self) -> None:
        """Run a chunk of the prompt, or a part of what a picture in it needs."""
        request = self._request
        part = self._runner.part(self._ids, self.length, marks=request.marks)
        if not self._runner.ready(part, self._request.pixels):
            self._run.unseen = self._runner.unseen(self._ids[self.length :])
            return
        self._run.unseen = 0.0
        self._states = self._runner.step(self._sequence, part, [len(part) - 1], request.cancel)
        if self.length in request.marks:
            self._runner.keep(self._ids, self._sequence, request.key)

    def burst(self) -> Burst:
        """Draw until the text is over or a few milliseconds have passed.

        What is run is committed when its draws were shown, that is, the next time. So is a fault behind the
        first draw raised: what was drawn before it is sound.
        """
        if self._fault is not None:
            fault, self._fault = self._fault, None
            raise fault
        self._runner.accept(self._sequence, self._ahead)
        self._ahead = 0
        burst, deadline = Burst(), time.perf_counter() + _BURST_SECONDS
        try:
            while self._advance(burst) and not burst.over and time.perf_counter() < deadline:
                pass
        except Exception as fault:
            if not burst.draws:
                raise
            self._fault = fault
        return burst

    def finish(self, keep: bool) -> None:
        """Give the pages back. `keep`: remember the text, as far as it was shown."""
        if keep and self._runner.holds(self._sequence):
            self._runner.accept(self._sequence, self._run_and_shown())
            self._runner.keep(self._ids, self._sequence, self._request.key)
        self._runner.finish(self._sequence)
        if self._runner.eyes is not None:
            self._runner.eyes.let_go(self._request.pixels)
        if self._speculation is not None:
            self._speculation.end()
            for proposer in self._speculation.proposers:
                proposer.finish()

    def _run_and_shown(self) -> int:
        """Tokens run ahead that somebody has seen the draw behind: as many as if they were run one by one."""
        prompt = len(self._request.ids)
        if self.shown == len(self._ids) - prompt:
            return self._ahead
        return max(prompt, prompt + self.shown - 1) - self.length

    def _proposers(self) -> list[Proposer]:
        found: list[Proposer] = [Lookup(self._ids)]
        if self._runner.drafter is not None:
            found.append(self._runner.drafter.follow(self._request, self._ids))
        return found

    def _advance(self, burst: Burst) -> bool:
        """A step and its draws. False instead, where a proposer has to read first."""
        if self._states is not None:  # the prompt's last token has been run with the others
            self._draw(self._look(self._states, []), [], burst)
            self._states = None
            return True
        chosen = self._speculation.choose(self._limit()) if self._speculation else None
        if chosen is not None and not chosen[0].ready:
            if not burst.draws:
                chosen[0].read()
            return False
        self._step(self._fitting(chosen[0].propose(chosen[1])) if chosen else [], burst)
        return True

    def _step(self, drafts: list[int], burst: Burst) -> None:
        """Append the last token and `drafts`, and draw as far as they are right."""
        runner, request = self._runner, self._request
        if self.length + self._ahead == len(request.ids):  # somebody may ask the same again
            runner.keep(request.ids, self._sequence, request.key)
        started = time.perf_counter()
        new = [self._ids[-1], *drafts]
        states = runner.ahead(self._sequence, new, range(len(new)), request.cancel, self._ahead)
        look = self._look(states, drafts)
        stepped = time.perf_counter()
        draws, accepted = self._draw(look, drafts, burst)
        ended = time.perf_counter()
        self._ahead += draws
        self._run.drafted += len(drafts)
        self._run.accepted += accepted
        if self._speculation is not None:
            self._speculation.observe(len(drafts), accepted, stepped - started, draws, ended - stepped)

    def _limit(self) -> int:
        """Drafts that can all be part of the text: the draw behind the last of them must be, too."""
        left = self._runner.context - len(self._ids)
        if self._request.max_tokens is not None:
            left = min(left, len(self._request.ids) + self._request.max_tokens - len(self._ids))
        return left - 1

    def _fitting(self, drafts: list[int]) -> list[int]:
        """No drafts where somebody would have to give way for them; no soft tokens, which are never drawn."""
        drafts = drafts[: next((place for place, draft in enumerate(drafts) if draft < 0), len(drafts))]
        if drafts and not self._runner.room(self._sequence, self._ahead + 1 + len(drafts)):
            return []
        return drafts

    def _look(self, states: Any, drafts: list[int]) -> Look:
        """How to draw at a row of `states`.

        The head reads its table once for all rows. Only with a constraint it is asked row by row: what is
        allowed at a row is known when the draws before it are.
        """
        sampler, constraint = self._request.sampler, self._request.constraint
        if constraint is None:
            found = self._runner.head(states, sampler.want(None, drafts))
            return lambda row: sampler.draw(found, len(self._ids), row)

        def look(row: int) -> Draw:
            want = sampler.want(constraint.allowed())
            return sampler.draw(self._runner.head(states[row : row + 1], want), len(self._ids))

        return look

    def _draw(self, look: Look, drafts: list[int], burst: Burst) -> tuple[int, int]:
        """Draw at rows in order until a draft is wrong or the text is over: draws made, drafts right."""
        for row, draft in enumerate(drafts):
            draw = look(row)
            self._take(draw, burst)
            if draw.id != draft:
                return row + 1, row
            if burst.over:
                return row + 1, row + 1
        self._take(look(len(drafts)), burst)
        return len(drafts) + 1, len(drafts)

    def _take(self, draw: Draw, burst: Burst) -> None:
        """Append a draw to the text, and see whether it is the last."""
        if draw.id in self._request.stops:
            burst.stopped = True
            return
        self._ids.append(draw.id)
        burst.draws.append(draw)
        burst.end = self._request.end_of(self._ids, self._runner.context)
