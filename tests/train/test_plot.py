"""A curve is where its values are, and labels say so; what is not finite leaves a gap."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from gemmary.train.plot import COLUMNS, SIDE, Curve, mean_of, plot


def drawn(html: str) -> dict[str, list[list[tuple[float, float]]]]:
    """Points of the paths of each kind, y upward, as shares of the drawing."""
    svg = re.search(r"<svg.*</svg>", html, re.DOTALL)
    assert svg is not None
    well_formed = re.sub(r"=(none|img|\w+)(?=[ />])", r"='\1'", svg[0])
    found: dict[str, list[list[tuple[float, float]]]] = {}
    for path in ElementTree.fromstring(well_formed):
        numbers = [float(n) for n in re.findall(r"-?[\d.]+(?:e-?\d+)?", path.attrib["d"])]
        points = [(x / SIDE, 1 - y / SIDE) for x, y in zip(numbers[::2], numbers[1::2], strict=False)]
        found.setdefault(path.attrib["class"], []).append(points)
    return found


def labels(html: str, side: str) -> dict[str, float]:
    """Text of each label and its place, percent."""
    return {text: float(at) for at, text in re.findall(rf"{side}:([\d.]+)%'>([^<]+)<", html)}


def test_a_straight_line_is_straight_and_labels_lie_on_it() -> None:
    html = plot(Curve("loss", range(1, 102), [100 + 2.0 * step for step in range(1, 102)]))
    (points,) = drawn(html)["curve"]
    slopes = np.diff([y for _, y in points]) / np.diff([x for x, _ in points])
    assert np.ptp(slopes) < 0.05
    assert points[0][0] < 0.01 and points[-1][0] > 0.99
    across, up = labels(html, "left"), labels(html, "top")
    for step, place in across.items():
        height = float(np.interp(place / 100, *zip(*points, strict=True)))
        value = np.interp(1 - height, *_by_place(up))
        assert value == pytest.approx(100 + 2 * float(step), abs=1)
    assert set(across) == {"20", "40", "60", "80", "100"} and set(up) == {"100", "150", "200", "250", "300"}


def _by_place(marks: dict[str, float]) -> tuple[list[float], list[float]]:
    pairs = sorted((place / 100, float(text.replace(",", ""))) for text, place in marks.items())
    return [place for place, _ in pairs], [value for _, value in pairs]


def test_a_long_run_is_thinned_and_its_extremes_are_still_there() -> None:
    values = np.ones(100_000)
    values[::2] = 2.0
    found = drawn(plot(Curve("loss", range(1, 100_001), values.tolist(), smooth=50)))
    (line,), (band,) = found["curve"], found["each"]
    assert len(line) == COLUMNS and len(band) == 2 * COLUMNS
    assert np.ptp([y for _, y in line]) < 0.05 < 0.8 < np.ptp([y for _, y in band])


def test_what_is_not_finite_is_left_out_and_marked() -> None:
    values = [3.0, math.nan, 2.0, math.inf, 1.0, -math.inf, 0.5]
    html = plot(Curve("loss", range(1, 8), values), lost=[2, 4, 6], turns=[3])
    found = drawn(html)
    assert len(found["curve"][0]) == 4 and len(found["lost"]) == 3 and len(found["turn"]) == 1
    assert found["lost"][0][0][0] == pytest.approx(1 / 6, abs=1e-3)
    assert "nan" not in html.lower() and "inf" not in html.lower()


@pytest.mark.parametrize(
    "values",
    [[], [1.0], [math.nan] * 5, [1.0, math.nan, math.inf], [1e300, 1e307, -1e307]],
)
def test_too_little_to_draw(values: list[float]) -> None:
    assert "Too few steps to draw" in plot(Curve("loss", range(len(values)), values))


@pytest.mark.parametrize(
    "values",
    [[0.0] * 9, [-5.0] * 9, [1e-30, 1e30, 1.0], [1e99, -1e99], [5e-324, 1e-320], [0.0, 1e-300], [7.0, 7.0]],
)
def test_strange_values_are_drawn(values: list[float]) -> None:
    for zero in (False, True):
        html = plot(Curve("loss", range(len(values)), values, smooth=3, zero=zero))
        assert drawn(html)["curve"] and "nan" not in html.lower()


def test_wide_ranges_are_drawn_by_logarithm() -> None:
    html = plot(Curve("norm", range(1, 5), [0.01, 0.1, 1.0, 10.0]))
    heights = np.diff([y for _, y in drawn(html)["curve"][0]])
    assert len(set(np.round(heights[1:], 3))) == 1
    assert {"0.01", "0.1", "1", "10"} <= set(labels(html, "top"))


def test_names_cannot_break_the_page() -> None:
    html = plot(Curve("<script>'\"", [1, 2, 3], [1.0, 2.0, 3.0], note="<b>"))
    assert "<script" not in html and "<b>&lt;" in html


def test_means() -> None:
    assert mean_of(np.array([1.0, 2, 3, 4, 5]), 3).tolist() == [1.5, 2, 3, 4, 4.5]
    assert mean_of(np.array([1.0, 2, 3]), 1).tolist() == [1, 2, 3]
