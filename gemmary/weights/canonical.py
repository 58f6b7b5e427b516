"""A file's tensors under our names: found, checked, looked up. Strict: all that must be there, no other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ..errors import ModelFileError, UnsupportedModelError
from .fields import shown
from .names import is_norm
from .tensor import FLOATS, Tensor, TensorInfo

Found = dict[str, TensorInfo]
Shapes = Mapping[str, tuple[int, ...]]


class Tensors(Mapping[str, Tensor]):
    """Tensors by our names, in the order of the forward pass. Each look-up checks that the file is whole."""

    def __init__(self, infos: Found, gain_offset: float) -> None:
        self._infos = infos
        self._gain_offset = gain_offset

    def __getitem__(self, name: str) -> Tensor:
        info = self._infos[name]
        offset = self._gain_offset if is_norm(name) else 0.0
        return Tensor(name, info.shape, info.known_format(), info.raw(), offset)

    def __iter__(self) -> Iterator[str]:
        return iter(self._infos)

    def __len__(self) -> int:
        return len(self._infos)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors as stored, without reading any."""
        return sum(info.nbytes for info in self._infos.values())


def canonical(tensors: Mapping[str, TensorInfo], ours: Callable[[str], str | None], path: Path) -> Found:
    """`tensors` under our names; ModelFileError for a name that `ours` does not know, or knows twice."""
    found: Found = {}
    unknown: list[str] = []
    for name, info in tensors.items():
        our = ours(name)
        if our is None:
            unknown.append(name)
        elif our in found:
            raise ModelFileError(path, f"{shown(name)} and {shown(found[our].name)} are the same tensor")
        else:
            found[our] = info
    if unknown:
        raise ModelFileError(path, f"holds tensors that Gemma 3 does not have: {_some(unknown)}")
    return found


def strict(found: Found, expected: Shapes, layers: int, path: Path) -> Found:
    """`found` in the order of `expected`, if it is exactly that: names, shapes, and formats that are run."""
    if missing := [name for name in expected if name not in found]:
        raise ModelFileError(path, f"lacks {len(missing)} of {len(expected)} tensors: {_some(missing)}")
    if extra := [found[name].name for name in found if name not in expected]:
        raise ModelFileError(path, f"holds {len(extra)} tensors beyond its {layers} layers: {_some(extra)}")
    for name, shape in expected.items():
        info = found[name]
        if info.shape != shape:
            raise ModelFileError(
                path, f"tensor {shown(info.name)} is {list(info.shape)}, but must be {list(shape)}"
            )
        if len(shape) == 1 and info.known_format().name not in FLOATS:
            word = "norms" if is_norm(name) else "biases"
            raise UnsupportedModelError(
                f"{path}: tensor {shown(info.name)} is {info.kind}; {word} must be floats"
            )
        info.known_format()
    return {name: found[name] for name in expected}


def _some(names: list[str]) -> str:
    return ", ".join(map(shown, names[:4])) + (", ..." if len(names) > 4 else "")
