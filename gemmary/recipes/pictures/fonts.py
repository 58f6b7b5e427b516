"""The fonts that pictures are lettered in: those of Debian's packages that are installed, split in two.

Families in HELD letter only pictures that training never sees. Fonts are found through fontconfig by family,
weight and width, and drawn from where they lie: none is shipped.
"""

from __future__ import annotations

import functools
import random
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from PIL import ImageFont

from ...errors import GemmaryError

SEEN = (
    "DejaVu Sans", "DejaVu Serif", "Liberation Sans", "Liberation Serif", "Liberation Sans Narrow",
    "Roboto", "Roboto Condensed", "Roboto Slab", "Open Sans", "Lato", "Noto Sans", "Noto Serif",
    "Carlito", "FreeSans", "FreeSerif", "Andika", "Gentium", "Cabin", "Comfortaa", "Dosis", "Inter",
    "Linux Libertine O", "Linux Biolinum O", "Quicksand", "Play", "Humor Sans", "Averia Sans GWF",
    "Averia Serif GWF", "B612", "C059", "Clear Sans", "Gillius ADF", "Go", "Junction", "Jura", "Karla",
    "Libris ADF Std", "Manrope", "Mekanus ADF Std", "Nimbus Roman", "Nimbus Sans", "Old Standard TT",
    "OpenDyslexic", "Oxygen-Sans", "P052", "PT Sans", "PT Sans Narrow", "PT Serif", "Quattrocento",
    "Tiresias Infofont", "Tuffy", "URW Gothic", "Universalis ADF Std", "Vollkorn", "Yanone Kaffeesatz",
    "eurofurence",
)  # fmt: skip
SEEN_MONO = (
    "DejaVu Sans Mono", "Liberation Mono", "Hack", "FreeMono", "JetBrains Mono", "Anonymous Pro", "B612 Mono",
    "Fantasque Sans Mono", "Go Mono", "Hermit", "Nimbus Mono PS", "Oxygen Mono", "PT Mono", "mononoki",
)  # fmt: skip
HELD = ("Caladea", "Cantarell", "Comic Neue")
HELD_MONO = ("Fira Code", "Inconsolata")
EMOJI = "Noto Color Emoji"
LEAST, LEAST_HELD = 6, 3  # text families without which the pictures would teach too few shapes of letters

PACKAGES = (Path(__file__).parent / "packages.txt").read_text(encoding="utf-8").split()
INSTALL = f"On Debian and Ubuntu: apt install {' '.join(PACKAGES)}"
ASKED = "%{family[0]}\t%{weight}\t%{slant}\t%{width}\t%{file}\n"
REGULAR, BOLD = range(75, 106), range(180, 201)  # fontconfig's weights
MISSING = "\U0010fffe"  # no font has it
REFERENCE = 100  # pixels at which a font is measured


class FontError(GemmaryError):
    """A font that pictures need is not installed. The message names Debian's packages."""


@dataclass(frozen=True)
class Family:
    """A family of letters: the files of its regular and, where it has one, bold weight."""

    name: str
    regular: str
    bold: str

    def at(self, size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
        """The font with `size` pixels an em."""
        return opened(self.bold if bold else self.regular, size)

    def width(self, text: str, bold: bool = False) -> float:
        """How wide text is, in ems."""
        return self.at(REFERENCE, bold).getlength(text) / REFERENCE

    def letters(self, text: str) -> bool:
        """Whether the family has every character of text."""
        return all(has(file, character) for file in (self.regular, self.bold) for character in set(text))

    @functools.cached_property
    def capital(self) -> float:
        """How high a capital letter is, in ems."""
        _, top, _, bottom = self.at(REFERENCE).getbbox("H")
        return (bottom - top) / REFERENCE


class Cut(NamedTuple):
    """One file of a family, as fontconfig tells it."""

    family: str
    weight: float
    width: float
    file: str


@functools.lru_cache(maxsize=1024)
def opened(file: str, size: int) -> ImageFont.FreeTypeFont:
    """The font in a file. Its layout is Pillow's own, which is on every machine the same."""
    return ImageFont.truetype(file, size, layout_engine=ImageFont.Layout.BASIC)


@functools.cache
def has(file: str, character: str) -> bool:
    """Whether a font draws a character, and not its sign for one that is missing."""
    font = opened(file, REFERENCE)
    return character.isspace() or bytes(font.getmask(character)) != bytes(font.getmask(MISSING))


@functools.cache
def installed() -> tuple[Cut, ...]:
    """Every upright font that fontconfig knows, in the order of its file names. FontError."""
    program = shutil.which("fc-list")
    if program is None:
        raise FontError(f"fc-list, which finds fonts, is not installed. {INSTALL}")
    told = subprocess.run([program, "--format", ASKED], capture_output=True, text=True, check=True).stdout
    rows = (line.split("\t") for line in told.splitlines())
    cuts = [Cut(r[0], float(r[1]), float(r[3]), r[4]) for r in rows if len(r) == 5 and plain(r)]
    return tuple(sorted(cuts, key=lambda cut: cut.file))


def plain(row: list[str]) -> bool:
    """Upright, and one weight: a variable font tells ranges instead of numbers."""
    return row[2] == "0" and all(value.replace(".", "", 1).isdigit() for value in (row[1], row[3]))


@functools.cache
def family(name: str) -> Family | None:
    """An installed family, or None."""
    cuts = [cut for cut in installed() if cut.family == name]
    usual = min((abs(cut.width - 100) for cut in cuts), default=0)
    cuts = [cut for cut in cuts if abs(cut.width - 100) == usual]
    regular = [cut for cut in cuts if int(cut.weight) in REGULAR]
    bold = [cut for cut in cuts if int(cut.weight) in BOLD]
    if not regular:
        return None
    chosen = min(regular, key=lambda cut: abs(cut.weight - 80)).file
    return Family(name, chosen, max(bold, key=lambda cut: cut.weight).file if bold else chosen)


@functools.cache
def families(held: bool, mono: bool = False) -> tuple[Family, ...]:
    """The installed families of a split. FontError if too few are there to learn or to test reading."""
    everything = _present(HELD + HELD_MONO) if held else _present(SEEN + SEEN_MONO)
    least = LEAST_HELD if held else LEAST
    if len(everything) < least:
        split = "held-out pictures" if held else "pictures"
        raise FontError(f"{split} need {least} text fonts, and {len(everything)} are installed. {INSTALL}")
    wanted = _present(HELD_MONO if held else SEEN_MONO) if mono else everything
    return wanted or everything


def _present(names: tuple[str, ...]) -> tuple[Family, ...]:
    return tuple(found for name in names if (found := family(name)) is not None)


def emoji_file() -> str:
    """Where the emoji lie. FontError."""
    for cut in installed():
        if cut.family == EMOJI:
            return cut.file
    raise FontError(
        f"the font {EMOJI} is not installed. On Debian and Ubuntu: apt install fonts-noto-color-emoji"
    )


def shuffled(held: bool, mono: bool, dice: random.Random) -> list[Family]:
    """A split's families in random order."""
    return dice.sample(families(held, mono), len(families(held, mono)))


def report() -> dict[str, list[str]]:
    """The families that pictures of each split are lettered in, for the report of a run."""
    return {split: [each.name for each in families(split == "held")] for split in ("seen", "held")}
