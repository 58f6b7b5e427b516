"""Figures: well-formed, and every mark where its number belongs."""

from __future__ import annotations

from xml.etree import ElementTree

from gemmary.recipes.studies.figure import HEIGHT, WIDTH, Figure, Point, Series, evenly

SVG = "{http://www.w3.org/2000/svg}"
LINE = Series("a < b", (Point(1, 10.0, 1.0), Point(2, 20.0, 2.0), Point(4, 40.0)))


def drawn(figure: Figure) -> ElementTree.Element:
    """The figure, as an XML reader understands it."""
    return ElementTree.fromstring(figure.svg())


def circles(figure: Figure) -> list[tuple[float, float]]:
    return [(float(c.get("cx", "")), float(c.get("cy", ""))) for c in drawn(figure).iter(f"{SVG}circle")]


def test_marks_are_in_scale() -> None:
    (x1, y1), (x2, y2), (x4, y4) = circles(Figure("t", "x", "y", (LINE,), evenly(["p"])))
    assert round((x4 - x1) / (x2 - x1), 1) == 3.0
    assert round((y1 - y4) / (y1 - y2), 1) == 3.0  # larger is higher
    assert 0 < x1 < x4 < WIDTH
    assert 0 < y4 < y1 < HEIGHT


def test_logarithmic_axes() -> None:
    figure = Figure("t", "x", "y", (LINE,), ((1, "1"),), log_x=True, log_y=True)
    (x1, y1), (x2, y2), (x4, y4) = circles(figure)
    assert round(x4 - x2) == round(x2 - x1)
    assert round(y1 - y2) == round(y2 - y4)


def test_error_bars_reach_as_far_as_they_say() -> None:
    root = drawn(Figure("t", "x", "y", (LINE,), ()))
    bars = [line for line in root.iter(f"{SVG}line") if line.get("x1") == line.get("x2")]
    heights = [float(b.get("y1", "")) - float(b.get("y2", "")) for b in bars]
    assert len(heights) == 2
    assert round(heights[1] / heights[0], 1) == 2.0


def test_words_are_escaped_and_there() -> None:
    words = "".join(
        text.text or "" for text in drawn(Figure("t & u", "x", "y", (LINE,), ())).iter(f"{SVG}text")
    )
    assert "a < b" in words
    assert "t & u" in words
