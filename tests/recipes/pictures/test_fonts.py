"""Missing fonts are named, with the packages to install; found ones are of the family that was asked for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from gemmary.recipes.pictures import fonts


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Nothing is remembered from other tests, nor for them."""
    caches = (fonts.installed, fonts.family, fonts.families)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def cut(family: str, weight: float = 80, width: float = 100, file: str = "") -> fonts.Cut:
    return fonts.Cut(family, weight, width, file or f"/{family}-{weight}-{width}.ttf")


def pretend(monkeypatch: pytest.MonkeyPatch, *cuts: fonts.Cut) -> None:
    monkeypatch.setattr(fonts, "installed", lambda: cuts)


def test_without_fontconfig(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(fonts.FontError, match=r"fc-list.*apt install fontconfig fonts-noto-color-emoji"):
        fonts.installed()


def test_too_few_families(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, *(cut(name) for name in fonts.SEEN[:5]))
    with pytest.raises(fonts.FontError, match=r"need 6 text fonts, and 5 are installed.*fonts-dejavu"):
        fonts.families(False)
    with pytest.raises(fonts.FontError, match=r"held-out pictures need 3 .* 0 are installed"):
        fonts.families(True)


def test_no_emoji(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, cut("Lato"))
    with pytest.raises(fonts.FontError, match="fonts-noto-color-emoji"):
        fonts.emoji_file()


def test_a_family_is_its_regular_and_its_bold(monkeypatch: pytest.MonkeyPatch) -> None:
    cuts = [cut("Lato", weight) for weight in (0, 50, 80, 100, 180, 200, 210)]
    pretend(monkeypatch, *cuts, cut("Lato", 80, 75), cut("Hack", 100))
    assert fonts.family("Lato") == fonts.Family("Lato", "/Lato-80-100.ttf", "/Lato-200-100.ttf")
    assert fonts.family("Hack") == fonts.Family("Hack", "/Hack-100-100.ttf", "/Hack-100-100.ttf")
    assert fonts.family("Roboto") is None


def test_no_family_is_in_both_splits() -> None:
    assert not {*fonts.SEEN, *fonts.SEEN_MONO} & {*fonts.HELD, *fonts.HELD_MONO}
