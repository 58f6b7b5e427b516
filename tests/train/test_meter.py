"""Speed, share of the peak and time left are those of the last steps; a bad step does not spoil the loss."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from gemmary.train.about import About
from gemmary.train.meter import POINTS, RECENT, Meter, duration, loss_text, power_text


def record(step: int, loss: float = 2.0, tokens: int = 100) -> dict[str, float]:
    return {"step": step, "loss": loss, "norm": 1.0, "tokens": tokens}


def test_nothing_is_claimed_before_two_steps() -> None:
    meter = Meter(10, About(flops=6.0, peak=100.0))
    meter.add(record(1), now=5.0)
    assert (meter.speed, meter.power, meter.utilisation, meter.left) == (None, None, None, None)


def test_speed_and_what_follows_from_it() -> None:
    meter = Meter(10, About(flops=6.0, peak=2400.0))
    for step in range(1, 5):
        meter.add(record(step), now=2.0 * step)  # 50 tokens a second
    assert (meter.speed, meter.power, meter.utilisation, meter.left) == (50.0, 300.0, 0.125, 12.0)


def test_only_the_last_steps_count_for_the_speed() -> None:
    meter = Meter(1000, About())
    for step in range(1, 200):
        meter.add(record(step), now=step if step < 100 else 100 + 10 * (step - 100))
    assert meter.speed == 10.0
    assert meter.power is None


def test_a_bad_step_is_counted_and_kept_out_of_the_loss() -> None:
    meter = Meter(10, About())
    for step, loss in enumerate((3.0, math.nan, 1.0, math.inf), 1):
        meter.add(record(step, loss), now=step)
    assert (meter.loss, meter.skipped, meter.curve) == (2.0, 2, [3.0, 2.0])


def test_a_run_that_goes_on_knows_what_was_before() -> None:
    meter = Meter(200, About(), [record(step, 5.0) for step in range(1, 61)])
    assert (meter.step, meter.loss, meter.speed) == (60, 5.0, None)
    meter.add(record(61, 5.0 + RECENT), now=1.0)
    assert meter.loss == 6.0


def test_the_curve_of_a_long_run_is_thinned_evenly() -> None:
    meter = Meter(5000, About(), [record(step, float(step)) for step in range(1, 5001)])
    curve = meter.curve
    assert POINTS // 2 <= len(curve) <= POINTS
    gaps = [b - a for a, b in pairwise(curve[5:])]
    assert min(gaps) == max(gaps) and curve[-1] > 4900


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"),
        (90, "90 s"),
        (200, "3 min"),
        (5999, "1 h 40 min"),
        (7500, "2 h 05 min"),
        (3e5, "3 d 11 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_losses() -> None:
    assert [loss_text(loss) for loss in (10.0, 0.5, 0.01234, 4e-7, math.nan)] == [
        "10.000",
        "0.500",
        "0.0123",
        "4e-07",
        "nan",
    ]


def test_powers() -> None:
    assert [power_text(p) for p in (4.31e14, 1.2e10, 9e15, 5e6)] == [
        "431 TFLOP/s",
        "12 GFLOP/s",
        "9 PFLOP/s",
        "5 MFLOP/s",
    ]
