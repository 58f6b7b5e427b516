"""What a frozen tower makes of pictures, on disk, so that training reads features only (report, 2.2).

Kept behind the pooling and in front of the projector, whose norm and matrix learn. A folder of sealed files
`features-00000.bin` (sealed_file.py), each with float16 [pictures, tokens, width] of as many pictures. A file
appears whole or not at all; writing goes on behind the files that are there. Every file says which tower and
which pictures it belongs to.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..errors import GemmaryError
from ..inputs.prompt import brightness
from ..model.vision_modules import TowerModule, TrunkModule
from ..ops.contract import Ints
from .pictures import Pictures
from .sealed_file import ChangedError, open_sealed, write_sealed
from .teacher import digest_of

Features = npt.NDArray[np.float16]
MAGIC = b"GEMFEA1\n"
SIZE = 1024  # pictures a file: 25 MB of nano, 600 MB of the real tower
PORTION = 16  # pictures that go through the tower at a time


class FeaturesError(GemmaryError):
    """A file of features is missing or damaged, or belongs to another tower or other pictures."""

    def __init__(self, path: Path, fault: str) -> None:
        super().__init__(
            f"{path}: {fault}; remove it and write the features again, which keeps those that are whole"
        )


def write_features(
    folder: Path,
    tower: TowerModule,
    pictures: Pictures,
    size: int = SIZE,
    low: bool = False,
    warn: Callable[[str], None] | None = None,
) -> None:
    """Compute the features of pixels; files that are there are kept; a damaged one is said and replaced.

    `size` pictures a file. `low`: matrices are multiplied in bfloat16. GemmaryError: a file cannot be
    written, is another tower's or other pictures', or a feature is not finite in float16.
    """
    report = warn or (lambda text: print(text, file=sys.stderr))
    folder.mkdir(parents=True, exist_ok=True)
    common = {**_origin(tower, pictures.digest), "count": len(pictures), "size": size, "low": low}
    for number, first in enumerate(range(0, len(pictures), size)):
        path, wanted = _path(folder, number), {**common, "number": number}
        if path.exists() and _intact(path, wanted, report):
            continue
        numbers = np.arange(first, min(first + size, len(pictures)), dtype=np.int32)
        write_sealed(path, MAGIC, wanted, [_computed(path, tower, pictures, numbers, low)])


def _origin(tower: TowerModule, pictures: str) -> dict[str, Any]:
    config = tower.config
    return {
        "tower": digest_of(TrunkModule(tower)),
        "pictures": pictures,
        "tokens": config.tokens,
        "width": config.width,
    }


def _path(folder: Path, number: int) -> Path:
    return folder / f"features-{number:05d}.bin"


@torch.no_grad()
def _computed(path: Path, tower: TowerModule, pictures: Pictures, numbers: Ints, low: bool) -> Features:
    """float16 [n, tokens, width]."""
    trunk, found = TrunkModule(tower), []
    for first in range(0, len(numbers), PORTION):
        pixels = brightness(pictures.read(numbers[first : first + PORTION]))
        with torch.autocast(trunk.positions.device.type, torch.bfloat16, enabled=low):
            found.append(trunk.pooled(pixels).float().numpy(force=True))
    with np.errstate(over="ignore"):
        features = np.concatenate(found).astype("<f2").reshape(len(numbers), -1, trunk.config.width)
    if not np.isfinite(features).all():
        raise GemmaryError(
            f"{path}: the tower makes numbers that float16 does not hold; are its weights finite?"
        )
    return features


def _intact(path: Path, wanted: dict[str, Any], report: Callable[[str], None]) -> bool:
    try:
        header, _ = _opened(path)
    except FeaturesError as error:
        report(f"{error} (done now)")
        return False
    _compare(path, header, wanted)
    return True


def _opened(path: Path) -> tuple[dict[str, Any], Features]:
    """The header and the features [n, tokens, width], mapped. FeaturesError."""
    try:
        header, raw = open_sealed(path, MAGIC)
        return header, raw.view("<f2").reshape(-1, header["tokens"], header["width"])
    except ChangedError as error:
        raise FeaturesError(path, str(error)) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FeaturesError(path, f"it cannot be read ({error})") from error


def _compare(path: Path, header: dict[str, Any], wanted: dict[str, Any]) -> None:
    other = [name for name, value in wanted.items() if header.get(name) != value]
    if other:
        raise FeaturesError(path, f"it was made with another {' and '.join(other)}")


class CachedFeatures:
    """Reads what `write_features` wrote with this tower for the pictures with this digest.

    FeaturesError: a file is missing or damaged (each is verified when it is first used), or made otherwise.
    """

    def __init__(self, folder: Path, tower: TowerModule, pictures: str) -> None:
        self._folder, self._wanted = folder, _origin(tower, pictures)
        self._open: dict[int, Features] = {}
        header, _ = _opened(_path(folder, 0))
        self._wanted |= {name: header.get(name) for name in ("count", "size", "low")}
        self._count, self._size = int(header["count"]), int(header["size"])
        missing = [
            path.name for n in range(-(-len(self) // self._size)) if not (path := _path(folder, n)).exists()
        ]
        if missing:
            raise FeaturesError(folder, f"{len(missing)} files are missing, {missing[0]} the first")
        self._of(0)

    def __len__(self) -> int:
        return self._count

    @property
    def digest(self) -> str:
        """Of tower and pictures."""
        return f"{self._wanted['tower']} {self._wanted['pictures']} {self._wanted['low']}"

    def read(self, numbers: Ints) -> Features:
        """Pooled features float16 [n, tokens, width] of these pictures: any files, any order."""
        shape = (len(numbers), self._wanted["tokens"], self._wanted["width"])
        found, (number, inside) = np.empty(shape, np.float16), np.divmod(numbers, self._size)
        for n in np.unique(number):
            found[number == n] = self._of(int(n))[inside[number == n]]
        return found

    def _of(self, number: int) -> Features:
        if number not in self._open:
            path = _path(self._folder, number)
            header, features = _opened(path)
            _compare(path, header, {**self._wanted, "number": number})
            self._open[number] = features
        return self._open[number]
