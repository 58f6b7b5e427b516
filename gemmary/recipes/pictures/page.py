"""Lettering: rows of text set on paper as large as they go, and never smaller than the tower can read.

A tower sees 224 x 224 pixels, whatever the shape of the picture. So a capital letter is about CAPITAL pixels
high at least after that resizing, and rows are short enough for it.

Layouts are split like fonts: frames, margins and alignments of HELD_FRAMES and "right" are never trained on.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import NamedTuple

from PIL import Image, ImageDraw

from . import backdrop
from .emoji import Colour
from .fonts import INSTALL, Family, FontError, shuffled

TOWER, CAPITAL = 224, 14
LEADING, RULE = 1.34, 0.4  # height of a row, and of the space for a rule, in ems
GAP = 0.7  # least space between columns, in ems
SEEN_FRAMES = ("none", "none", "none", "box", "rules")
HELD_FRAMES = ("double", "band", "corners")
BAND = 10
LEAN, SQUEEZE = 0.16, 1.2  # of a page as training sees it: pixels to the side a pixel down; times narrower


class Row(NamedTuple):
    """A line of one cell, or of columns: the first flush left, the others flush right."""

    cells: tuple[str, ...]
    size: float = 1.0  # in ems of the page
    bold: bool = False
    rule: bool = False  # a line above


@dataclass(frozen=True)
class Hand:
    """How a page looks: letters, colours, alignment, frame."""

    family: Family
    bold: bool
    ink: Colour
    paper: Colour
    align: str
    frame: str
    full: bool  # columns reach from edge to edge, or keep together

    def strong(self, row: Row) -> bool:
        return row.bold or self.bold

    def wide(self, text: str, row: Row) -> float:
        return self.family.width(text, self.strong(row)) * row.size


def hand(
    rows: list[Row], room: tuple[int, int], least: float, held: bool, mono: bool, dice: random.Random
) -> Hand:
    """A hand that sets rows into width x height pixels with capitals of `least` pixels.

    Where no family is narrow enough, the one that comes nearest.
    """
    text = "".join(cell for row in rows for cell in row.cells)
    dark = dice.random() < 0.2
    paper, ink = (backdrop.BOARDS, backdrop.CHALKS) if dark else (backdrop.PAPERS, backdrop.INKS)
    rest = dice.random() < 0.25, dice.choice(ink), dice.choice(paper)
    align = "right" if held and dice.random() < 0.3 else dice.choice(("left", "centre", "centre"))
    frame = dice.choice(HELD_FRAMES if held else SEEN_FRAMES)
    families = (family for family in shuffled(held, mono, dice) if family.letters(text))
    full = dice.random() < 0.6
    hands = (Hand(family, *rest, align, frame, full) for family in families)
    best, most = None, 0.0
    for tried in hands:
        capital = fit(rows, room, tried) * tried.family.capital
        if best is None or capital > most:
            best, most = tried, capital
        if capital >= least:
            break
    if best is None:
        raise FontError(f"none of the fonts of these pictures has all the letters of {text!r}. {INSTALL}")
    return best


def columns(rows: list[Row], hand: Hand) -> dict[int, list[float]]:
    """Widths of columns in ems, for rows of 2 cells, of 3, and so on."""
    found: dict[int, list[float]] = {}
    for row in rows:
        wide = [hand.wide(cell, row) for cell in row.cells]
        old = found.get(len(wide), wide)
        found[len(wide)] = [max(a, b) for a, b in zip(old, wide, strict=True)]
    return found


def breadth(rows: list[Row], hand: Hand) -> float:
    """How wide rows are, in ems."""
    return max(sum(wide) + GAP * (len(wide) - 1) for wide in columns(rows, hand).values())


def depth(rows: list[Row]) -> float:
    """How high rows are, in ems."""
    return sum(LEADING * row.size + RULE * row.rule for row in rows)


def fit(rows: list[Row], room: tuple[int, int], hand: Hand) -> float:
    """The largest em, in pixels, with which rows go into width x height pixels."""
    return min(room[0] / breadth(rows, hand), room[1] / depth(rows))


def sheet(
    rows: list[Row],
    size: tuple[int, int],
    held: bool,
    dice: random.Random,
    mono: bool = False,
    largest: float = 1.0,
) -> Image.Image:
    """A page with rows on it. largest bounds the capitals, as a share of the height of the page."""
    width, height = size
    margin = dice.randint(12, 15) + 3 * held
    box = margin, margin, width - margin, height - margin
    least = CAPITAL * height / TOWER
    drawn = hand(rows, (box[2] - box[0], box[3] - box[1]), least, held, mono, dice)
    picture = Image.new("RGB", size, drawn.paper)
    frame(picture, drawn)
    letter(picture, rows, box, drawn, dice, (least, largest * height))
    return worn(picture, drawn.paper, held, dice)


def letter(
    picture: Image.Image,
    rows: list[Row],
    box: tuple[int, int, int, int],
    hand: Hand,
    dice: random.Random,
    capitals: tuple[float, float],
) -> None:
    """Sets rows into a box, as large as they go, with capitals of the least to the largest height if so."""
    left, top, right, bottom = box
    least, largest = (pixels / hand.family.capital for pixels in capitals)
    room = min(fit(rows, (right - left, bottom - top), hand), largest)
    em = min(room, least) + max(0.0, room - least) * dice.random() ** 0.6
    y = top + dice.random() * (bottom - top - em * depth(rows))
    draw, tabs = ImageDraw.Draw(picture), columns(rows, hand)
    for row in rows:
        if row.rule:
            y += em * RULE
            draw.line(
                (left, round(y - em * RULE / 2), right, round(y - em * RULE / 2)),
                hand.ink,
                max(1, round(em / 16)),
            )
        spans = stops(tabs[len(row.cells)], em, left, right, hand.align, hand.full)
        for i, (cell, (start, stop)) in enumerate(zip(row.cells, spans, strict=True)):
            wide = hand.wide(cell, row) * em
            shift = {"left": 0.0, "centre": 0.5, "right": 1.0}[align_of(i, len(row.cells), hand.align)]
            font = hand.family.at(round(em * row.size), hand.strong(row))
            draw.text(
                (round(start + shift * (stop - start - wide)), y + em * row.size * BASE),
                cell,
                hand.ink,
                font,
                "ls",
            )
        y += em * LEADING * row.size


BASE = 1.0  # the baseline of a row, in ems from its top


def align_of(column: int, columns: int, align: str) -> str:
    """How a cell is set in its column."""
    if columns == 1:
        return align
    return "right" if column else "left"


def stops(
    wide: list[float], em: float, left: int, right: int, align: str, full: bool
) -> list[tuple[float, float]]:
    """From where to where each column reaches, in pixels."""
    if len(wide) == 1:
        return [(left, right)]
    spare = right - left - em * (sum(wide) + GAP * (len(wide) - 1))
    gap = GAP * em + (spare / (len(wide) - 1) if full else 0)
    x = left + (0 if full else spare * {"left": 0.0, "centre": 0.5, "right": 1.0}[align])
    spans = []
    for each in wide:
        spans.append((x, x + each * em))
        x += each * em + gap
    return spans


def frame(picture: Image.Image, hand: Hand) -> None:
    """What goes round a page."""
    draw, (width, height) = ImageDraw.Draw(picture), picture.size
    if hand.frame in ("box", "double"):
        draw.rectangle((3, 3, width - 4, height - 4), outline=hand.ink, width=2)
    if hand.frame == "double":
        draw.rectangle((7, 7, width - 8, height - 8), outline=hand.ink, width=1)
    if hand.frame == "band":
        draw.rectangle((0, 0, width, BAND), hand.ink)
        draw.rectangle((0, height - BAND, width, height), hand.ink)
    if hand.frame == "rules":
        for y in (4, height - 5):
            draw.line((8, y, width - 9, y), hand.ink, 2)
    if hand.frame == "corners":
        for x in (0, width):
            for y in (0, height):
                draw.ellipse((x - 12, y - 12, x + 12, y + 12), hand.ink)


def slanted(picture: Image.Image, paper: Colour, dice: random.Random) -> Image.Image:
    """A page whose letters lean, or are narrower or lower than their font has them, or neither.

    Fonts are few, and hands are many: eyes that never saw a letter lean take it for another.
    """
    if dice.random() < 0.5:
        return picture
    lean, wide, high = dice.uniform(-LEAN, LEAN), dice.uniform(1, SQUEEZE), dice.uniform(1, SQUEEZE)
    x, y = picture.width / 2, picture.height / 2
    matrix = (wide, lean, x - wide * x - lean * y, 0, high, y - high * y)
    return picture.transform(
        picture.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=paper
    )


def worn(picture: Image.Image, paper: Colour, held: bool, dice: random.Random) -> Image.Image:
    """A page that lies a little askew, or is grained, or neither; and in training may be `slanted`."""
    if not held:
        picture = slanted(picture, paper, dice)
    if dice.random() < 0.3:
        picture = picture.rotate(dice.uniform(-3, 3), Image.Resampling.BILINEAR, fillcolor=paper)
    if dice.random() < 0.25:
        picture = backdrop.grained(picture, dice, dice.randint(6, 28))
    return picture
