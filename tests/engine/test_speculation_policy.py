"""The choice of how much to guess: seconds and counts in, a number of tokens out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gemmary.engine.speculation import LENGTHS, Acceptance, Costs, Experience, Speculation, best_length

LIMIT = 50
PLAIN = 1e-2


class Guess:
    """A proposer that always has a guess of one grade."""

    ready = True

    def __init__(self, name: str = "lookup", grade: int | None = 8, seconds: float | None = 0.0) -> None:
        self.name = name
        self._grade = grade
        self.seconds = seconds

    def grade(self) -> int | None:
        return self._grade

    def read(self) -> None: ...

    def propose(self, count: int) -> list[int]:
        return [0] * count

    def finish(self) -> None: ...


def measured(step: Callable[[int], float], draw: float = 0.0) -> Costs:
    """Costs of which every width is known."""
    costs = Costs()
    for _ in range(4):
        for width in (1, *(1 + length for length in LENGTHS)):
            costs.add(width, step(width), 1, draw)
    return costs


def flat(width: int) -> float:
    """A machine that waits for memory only."""
    return PLAIN


def bent(width: int) -> float:
    """Rows are free up to the fifth, then each costs a fifth."""
    return PLAIN * max(1.0, width / 5)


def steep(width: int) -> float:
    """Every row costs as much as a step."""
    return PLAIN * width


def test_where_rows_are_free_long_guesses_win() -> None:
    assert best_length(measured(flat), 0.9, 0.0, LIMIT)[0] == LENGTHS[-1]
    assert best_length(measured(flat), 0.05, 0.0, LIMIT)[1] > 1 / PLAIN


def test_where_rows_cost_a_step_nothing_wins() -> None:
    for rate in (0.1, 0.5, 0.95):
        assert best_length(measured(steep), rate, 0.0, LIMIT)[1] < 1 / PLAIN


def test_the_better_the_guesses_the_more_of_them() -> None:
    lengths = [best_length(measured(bent), rate, 0.0, LIMIT)[0] for rate in (0.1, 0.5, 0.9, 0.99)]
    assert lengths == sorted(lengths)
    assert lengths[0] < lengths[-1] == 5


def test_the_speed_is_tokens_by_seconds() -> None:
    """1 + 0.5 + 0.25 + 0.125 tokens, in a step, their draws and three guesses."""
    costs = Costs()
    for width in (1, 1, 1, 1, 4, 4):
        costs.add(width, 2.0 if width == 4 else 1.9, 1, 0.1)
    length, speed = best_length(costs, 0.5, 0.05, 3)
    tokens = 1.875
    assert length == 3
    assert speed == pytest.approx(tokens / (2.0 + tokens * 0.1 + 3 * 0.05))


@pytest.mark.parametrize("limit", [0, 1, 2, 4, 6, 100])
def test_never_more_than_the_text_has_room_for(limit: int) -> None:
    experience = Experience()
    experience.costs = measured(flat)
    chosen = Speculation(experience, [Guess()]).choose(limit)
    assert (chosen is None) == (limit == 0)
    assert chosen is None or 0 < chosen[1] <= limit


def test_nothing_is_guessed_before_plain_steps_are_measured() -> None:
    experience = Experience()
    speculation = Speculation(experience, [Guess()])
    for _ in range(4):
        assert speculation.choose(LIMIT) is None
        speculation.observe(0, 0, PLAIN, 1, 0.0)
    assert speculation.choose(LIMIT) is not None


def test_without_a_guess_nothing_is_chosen() -> None:
    experience = Experience()
    experience.costs = measured(flat)
    assert Speculation(experience, [Guess(grade=None)]).choose(LIMIT) is None
    assert Speculation(experience, []).choose(LIMIT) is None


def test_of_two_that_guess_the_quicker_is_asked() -> None:
    """A repetition of two tokens is a worse guess than a model's; one of sixteen is free, and better."""
    experience = Experience()
    experience.costs = measured(bent)
    model = Guess("drafter", 0, seconds=PLAIN / 10)
    for grade, expected in ((2, "drafter"), (16, "lookup")):
        chosen = Speculation(experience, [Guess(grade=grade), model]).choose(LIMIT)
        assert chosen is not None
        assert chosen[0].name == expected
    slow = Guess("drafter", 0, seconds=PLAIN)
    assert Speculation(experience, [slow]).choose(LIMIT) is None


def test_costs_between_and_beyond_what_was_measured() -> None:
    costs = Costs()
    for width, seconds in ((1, 1.0), (4, 1.6), (8, 4.0)):
        for _ in range(4):
            costs.add(width, seconds, 1, 0.0)
    assert [costs.step(width) for width in (1, 2, 4, 6, 8)] == pytest.approx([1.0, 1.2, 1.6, 2.8, 4.0])
    assert costs.step(12) == pytest.approx(4.0 + 4 * 0.6)


@pytest.mark.parametrize("odd", [1, 2, 8])
def test_one_odd_measurement_does_no_harm(odd: int) -> None:
    """The process was stopped for a minute in the middle of a step."""
    costs = measured(bent)
    before = [costs.step(width) for width in range(1, 17)]
    costs.add(odd, 60.0, 1, 60.0)
    assert [costs.step(width) for width in range(1, 17)] == before
    assert costs.draw == 0.0


def test_the_first_step_of_a_width_is_not_counted() -> None:
    """The engine records it."""
    costs = measured(flat)
    before = costs.step(10)
    costs.add(10, 60.0, 1, 0.0)
    assert costs.step(10) == before
    costs.add(10, 2 * PLAIN, 1, 0.0)
    assert costs.step(10) == 2 * PLAIN


def test_an_odd_second_measurement_is_forgotten() -> None:
    costs = Costs()
    for width in (1, 1, 1, 8, 8):
        costs.add(width, 60.0 if width == 8 else PLAIN, 1, 0.0)
    assert costs.step(8) == 60.0
    for _ in range(300):
        costs.add(1, PLAIN, 1, 0.0)
    assert costs.step(8) < 2 * PLAIN


def test_plain_steps_are_measured_again_now_and_then() -> None:
    """Or one that was slow would make every guess look good for ever."""
    experience = Experience()
    speculation = Speculation(experience, [Guess(grade=16)])
    for _ in range(4):
        speculation.observe(0, 0, 100 * PLAIN, 1, 0.0)  # the first steps of a process
    plain = 0
    for _ in range(600):
        chosen = speculation.choose(LIMIT)
        length = chosen[1] if chosen else 0
        plain += not length
        speculation.observe(length, 0, 2 * PLAIN if length else PLAIN, 1, 0.0)
    assert plain > 300


def test_evidence_moves_the_rate_and_fades() -> None:
    acceptance = Acceptance({2: 0.5, 8: 0.8})
    for _ in range(20):
        acceptance.add(2, 4, 4)
    assert acceptance.rate(2) > 0.9
    for _ in range(40):
        acceptance.add(2, 4, 0)
    assert acceptance.rate(2) < 0.2
    assert acceptance.rate(8) == 0.8
    heir = acceptance.heir()
    assert acceptance.rate(2) < heir.rate(2) < 0.5
    for _ in range(3000):
        acceptance.fade()
    assert acceptance.rate(2) == pytest.approx(0.5, abs=0.01)


def test_the_next_text_learns_from_the_last() -> None:
    """A row costs an eighth of a step: worth a try, but not for guesses that are never right."""
    experience = Experience()
    experience.costs = measured(lambda width: PLAIN * (1 + width / 8))
    first = Speculation(experience, [Guess(grade=2)])
    assert first.choose(LIMIT) is not None
    for _ in range(5):
        first.observe(1, 0, PLAIN * 1.25, 1, 0.0)
    first.end()
    assert Speculation(experience, [Guess(grade=2)]).choose(LIMIT) is None
    for _ in range(20):
        Speculation(experience, [Guess(grade=2)]).end()  # texts in which nothing was learned
    assert Speculation(experience, [Guess(grade=2)]).choose(LIMIT) is not None


def simulated(
    step: Callable[[int], float], rate: float, forced: int | None = None, tokens: int = 2000, **guess: Any
) -> float:
    """Tokens a second of a text whose guesses are right with a chance of `rate`, each behind right ones."""
    rng, experience = np.random.default_rng(1), Experience()
    proposer = Guess(**guess)
    speculation = Speculation(experience, [proposer])
    made, seconds = 0, 0.0
    while made < tokens:
        chosen = speculation.choose(LIMIT)
        length = (chosen[1] if chosen else 0) if forced is None else forced
        right = next((i for i, luck in enumerate(rng.random(length)) if luck >= rate), length)
        took = step(1 + length) * float(rng.normal(1, 0.03)) * (5 if rng.random() < 0.01 else 1)
        speculation.observe(length, right, took, right + 1, 1e-4)
        made += right + 1
        seconds += took + (right + 1) * 1e-4 + length * (proposer.seconds or 0.0)
    return made / seconds


@pytest.mark.parametrize("step", [flat, bent, steep], ids=lambda step: step.__name__)
@pytest.mark.parametrize("rate", [0.0, 0.2, 0.5, 0.8, 0.97])
@pytest.mark.parametrize("guess", [{}, {"name": "drafter", "grade": 0, "seconds": PLAIN / 8}], ids=str)
def test_never_much_slower_than_the_best_fixed_choice(
    step: Callable[[int], float], rate: float, guess: dict[str, Any]
) -> None:
    """On when it wins, off when it does not: against plain steps, and against each length all the time."""
    speed = simulated(step, rate, **guess)
    assert speed > 0.95 * simulated(step, rate, 0, **guess)
    assert speed > 0.87 * max(simulated(step, rate, length, **guess) for length in LENGTHS)


def test_a_text_that_begins_to_repeat_is_noticed() -> None:
    """A thousand tokens without a right guess, then guesses that are always right."""
    experience = Experience()
    speculation = Speculation(experience, [Guess()])
    steps: dict[float, int] = {}
    for rate in (0.0, 1.0):
        made = 0
        while made < 1000:
            chosen = speculation.choose(LIMIT)
            length = chosen[1] if chosen else 0
            right = length if rate else 0
            speculation.observe(length, right, bent(1 + length), right + 1, 0.0)
            made += right + 1
            steps[rate] = steps.get(rate, 0) + 1
    assert steps[0.0] == 1000
    assert steps[1.0] < 400
