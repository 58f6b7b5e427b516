"""Pictures in running texts: which is which, and what the tower makes of each, computed once.

In the engine a text is a list of ids in which a soft token of picture n is -1 - n. So all that compares,
cuts and remembers texts (snapshots, chunks, guesses) tells pictures apart without knowing about them.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Generator, Mapping
from collections.abc import Sequence as Ids
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..config import Config
from ..errors import PromptError
from ..inputs.prompt import brightness
from ..model.vision import Encoder, encoding
from ..ops.contract import Floats, Step
from .sampling import NotFiniteError
from .thread import Cancelled, EngineThread

FEATURE_BYTES = 256 << 20  # of remembered features, at most: a hundred pictures at 4B
PICTURES = 100  # whose features are remembered, of a model whose pictures are small
_KNOWN = 1 << 16  # pictures that have a number; one that comes back later than that counts as new

Pixels = Mapping[int, npt.NDArray[Any]]  # by the number of the picture: [3, S, S], uint8 or float32 in -1..1


def numbers_in(ids: Ids[int]) -> list[int]:
    """The pictures of a text, in order."""
    return list(OrderedDict.fromkeys(-1 - token for token in ids if token < 0))


def numbered(ids: Ids[int], soft: int, numbers: Ids[int], tokens: int) -> list[int]:
    """Ids whose soft tokens become -1 - number, picture by picture, `tokens` in a row each.

    PromptError where there are not as many pictures as soft tokens want.
    """
    text, left, place = [int(token) for token in ids], list(numbers), 0
    while soft in text[place:]:
        place = text.index(soft, place)
        if not left or text[place : place + tokens] != [soft] * tokens:
            break
        text[place : place + tokens] = [-1 - left.pop(0)] * tokens
    if left or soft in text:
        raise PromptError(
            f"the prompt has {ids.count(soft)} soft tokens, and {len(numbers)} pictures of {tokens} in a row "
            "each: let model.prompt make it"
        )
    return text


def encode(eyes: Eyes, thread: EngineThread, number: int, pixels: npt.NDArray[Any]) -> Floats:
    """The features of a picture, [tokens, D]."""

    wanted = {number: pixels}

    def features() -> Floats | None:
        return eyes.features(number).copy() if eyes.ready([number], wanted) else None

    try:
        while (found := thread.run(features)) is None:
            pass
        return found
    except Cancelled:
        raise PromptError("this model was closed meanwhile: load it again") from None
    finally:
        thread.later(lambda: eyes.let_go(wanted))


def _next(layers: Generator[None, None, Any]) -> Floats | None:
    """Compute a layer; behind the last one, the features."""
    try:
        next(layers)
    except StopIteration as done:
        return np.asarray(done.value, np.float32).copy()
    return None


def feature_bytes(config: Config) -> int:
    """Bytes of features that are remembered for a model."""
    tokens = 0 if config.vision is None else config.vision.tokens
    return min(FEATURE_BYTES, PICTURES * 4 * tokens * config.width)


class Eyes:
    """A tower with the features of the latest pictures. All but `number` belongs to the engine thread."""

    def __init__(self, tower: Encoder, limit: int) -> None:
        """`limit`: bytes of features that are kept, as `feature_bytes` says."""
        self.tokens = tower.config.tokens
        self._tower = tower
        self._limit = limit
        self._numbers: OrderedDict[bytes, int] = OrderedDict()
        self._next = 0
        self._lock = threading.Lock()
        self._features: OrderedDict[int, Floats] = OrderedDict()  # least recently used first
        self._held: dict[int, Pixels] = {}  # of requests that have asked and are not over
        self._running: tuple[int, Generator[None, None, Any]] | None = None
        self._layers = 0  # that are done of the picture that is running
        self._faults: dict[int, Exception] = {}  # of pictures that another request was computing for

    def number(self, key: bytes) -> int:
        """The number of a picture, by a digest of all that its pixels depend on. Any thread may ask."""
        with self._lock:
            if key not in self._numbers:
                self._numbers[key] = self._next
                self._next += 1
            self._numbers.move_to_end(key)
            if len(self._numbers) > _KNOWN:
                self._numbers.popitem(last=False)
            return self._numbers[key]

    def ready(self, numbers: Ids[int], pixels: Pixels, look: bool = True) -> bool:
        """Whether the features of these pictures are there; else ask again: with `look` a layer is computed.

        `pixels` are all pictures of a request. Their features stay until it lets go of them.
        """
        self._held[id(pixels)] = pixels
        for number in numbers:
            if number in self._features:
                self._features.move_to_end(number)
        missing = [number for number in numbers if number not in self._features]
        if not missing:
            return True
        for number in missing:
            if number in self._faults:
                raise self._faults.pop(number)
        if not look:
            return False
        if self._running is None:
            self._running = missing[0], encoding(self._tower, brightness(pixels[missing[0]])[None])
            self._layers = -1  # the first stop is in front of the first layer
        self._advance(self._running, missing)
        return False

    def unseen(self, numbers: Ids[int]) -> float:
        """Pictures of these that are not ready; of the one that is being computed, the part that is left."""
        missing = [number for number in numbers if number not in self._features]
        begun = self._running is not None and self._running[0] in missing
        return len(missing) - (self._layers / len(self._tower.layers) if begun else 0.0)

    def let_go(self, pixels: Pixels) -> None:
        """The request with these pictures is over."""
        self._held.pop(id(pixels), None)
        for number in self._faults.keys() - self._wanted():
            del self._faults[number]
        if self._running is not None and self._running[0] not in self._wanted():
            self._running = None

    def features(self, number: int) -> Floats:
        """Soft tokens [tokens, D] of a picture that is ready."""
        return self._features[number]

    def whole(self, ids: Ids[int], end: int) -> int:
        """The first place from `end` on where no picture of a text is cut."""
        inside = self.inside(ids, end)
        return end + self.tokens - inside if inside else end

    def inside(self, ids: Ids[int], place: int) -> int:
        """How many tokens of a picture stand before `place`, if `place` cuts it; else 0."""
        first = place
        while first and ids[first - 1] < 0 and ids[first - 1] == ids[place - 1]:
            first -= 1
        return (place - first) % self.tokens

    def spliced(self, step: Step) -> Step:
        """The step with the features of its pictures, which are ready and whole."""
        soft = step.ids < 0
        numbers = (-1 - step.ids[soft]).reshape(-1, self.tokens)
        block = step.block.copy()
        block[soft] = np.repeat(np.arange(len(numbers), dtype=np.int32), self.tokens)
        features = np.concatenate([self._features[int(number)] for number in numbers[:, 0]])
        return replace(step, ids=np.where(soft, 0, step.ids), block=block, soft=features)

    def _advance(self, running: tuple[int, Generator[None, None, Any]], missing: list[int]) -> None:
        """One layer more of the picture that runs. It may be another request's: then so is a fault."""
        number, layers = running
        self._running = None  # also when this fails
        try:
            if (features := _next(layers)) is None:
                self._running = number, layers
                self._layers += 1
            else:
                self._keep(number, features)
        except Exception as fault:
            if number in missing:
                raise
            self._faults[number] = fault

    def _wanted(self) -> set[int]:
        return {number for pixels in self._held.values() for number in pixels}

    def _keep(self, number: int, features: Floats) -> None:
        if not np.isfinite(features).all():
            raise NotFiniteError
        self._features[number] = features
        kept = sum(array.nbytes for array in self._features.values())
        wanted = self._wanted()
        for old in [old for old in self._features if old not in wanted]:
            if kept <= self._limit:
                break
            kept -= self._features.pop(old).nbytes
