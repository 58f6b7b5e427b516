"""Typed, range-checked reading of numbers that a model file claims.

Every number of a config.json or of GGUF metadata passes through here before anything is sized by it, so a
hostile file meets a plain sentence and not an allocation.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from reprlib import Repr

import numpy as np

from ..errors import ModelFileError

# Largest values taken, far above any Gemma 3: low enough that no product of two of them is a surprise.
VOCAB = 1 << 19
WIDTH = 1 << 16
LAYERS = 512
HEADS = 1024
HEAD_DIM = 4096
FFN = 1 << 20
POSITIONS = 1 << 24
THETA = 1e12
FACTOR = 1024.0
EPS = (1e-12, 1e-1)
PIXELS = 8192  # of a picture's side
PATCH = 1024  # pixels of a patch's side
SOFT_TOKENS = 1 << 16  # of a picture
DIMENSION = 1 << 31  # of any tensor

_brief = Repr()
_brief.maxstring = _brief.maxother = _brief.maxlong = 60
_REQUIRED = object()


def shown(value: object) -> str:
    """`value` as it may stand in a message: one line, bounded, control characters escaped."""
    return _brief.repr(value)


def shortest(value: float) -> float:
    """The float64 with the fewest digits that is the same float32: 1e-6 again after a trip through one."""
    return float(str(np.float32(value)))


class Fields:
    """A dictionary from a file, read field by field; faults are ModelFileErrors naming file and field."""

    def __init__(self, values: Mapping[str, object], path: Path, prefix: str = "") -> None:
        self.values = values
        self.path = path
        self.prefix = prefix

    def fault(self, key: str, must: str) -> ModelFileError:
        """The error for a field that is not what it must be."""
        return ModelFileError(
            self.path, f"{self.prefix}{key} is {shown(self.values.get(key))}, but must be {must}"
        )

    def whole(self, key: str, high: int, default: object = _REQUIRED, low: int = 1) -> int:
        """A whole number from `low` to `high`."""
        value = self._get(key, default)
        if type(value) is not int or not low <= value <= high:
            raise self.fault(key, f"a whole number from {low} to {high}")
        return value

    def number(self, key: str, low: float, high: float, default: object = _REQUIRED) -> float:
        """A finite number from `low` to `high`."""
        value = self._get(key, default)
        if type(value) not in (int, float) or not low <= value <= high:  # type: ignore[operator]
            raise self.fault(key, f"a number from {low:g} to {high:g}")
        return float(value)  # type: ignore[arg-type]

    def text(self, key: str, default: object = _REQUIRED) -> str:
        """A string."""
        value = self._get(key, default)
        if not isinstance(value, str):
            raise self.fault(key, "a text")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """true or false; null counts as absent."""
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.fault(key, "true or false")
        return value

    def section(self, key: str) -> Fields | None:
        """A nested dictionary; None when the key is absent or null."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.fault(key, "a group of fields")
        return Fields(value, self.path, f"{self.prefix}{key}.")

    def is_set(self, key: str) -> bool:
        """Whether the field is there and not null, false or zero."""
        return bool(self.values.get(key))

    def _get(self, key: str, default: object) -> object:
        value = self.values.get(key, default)
        if value is _REQUIRED:
            raise ModelFileError(self.path, f"{self.prefix}{key} is missing")
        return value
