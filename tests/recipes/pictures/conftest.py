"""Pictures need fonts that a machine may not have. What needs none of them is tested everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from PIL import ImageDraw, ImageFont

from gemmary.recipes.pictures import fonts

FONTLESS = ("test_fonts", "test_nouns")


@pytest.fixture(autouse=True)
def installed(request: pytest.FixtureRequest) -> None:
    """Skips a test that draws where the fonts are not installed."""
    if request.module.__name__.rpartition(".")[2] in FONTLESS:
        return
    try:
        fonts.families(False), fonts.families(True), fonts.emoji_file()
    except fonts.FontError as missing:
        pytest.skip(str(missing))


@dataclass(frozen=True)
class Lettered:
    """A text that was drawn: its family, the height of its capitals, its box, the size of the page."""

    text: str
    family: str
    capital: float
    box: tuple[float, float, float, float]
    page: tuple[int, int]


@pytest.fixture
def lettered(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Lettered]]:
    """Everything that Pillow letters from now on."""
    seen: list[Lettered] = []
    draw = ImageDraw.ImageDraw.text

    def text(
        self: ImageDraw.ImageDraw,
        xy: tuple[float, float],
        words: str,
        fill: object,
        font: ImageFont.FreeTypeFont,
        anchor: str,
    ) -> None:
        _, top, _, bottom = font.getbbox("H")
        box = self.textbbox(xy, words, font, anchor)
        seen.append(Lettered(words, str(font.getname()[0]), bottom - top, box, self.im.size))
        draw(self, xy, words, fill, font, anchor)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    yield seen
