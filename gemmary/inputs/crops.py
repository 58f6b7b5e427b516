"""Pan & scan: which crops of a picture the model sees besides the whole.

The report's section 2.1 has the idea; the rules are those of transformers' image_processing_gemma3.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import PromptError

Box = tuple[int, int, int, int]  # left, top, right, bottom, as in PIL
MAX_TILES = 8  # a side


@dataclass(frozen=True)
class PanAndScan:
    """How pictures are cut.

    The first three are Gemma's, and mean what transformers' pan_and_scan_min_crop_size, _max_num_crops and
    _min_ratio_to_activate mean: a picture whose longer side is at least `ratio` times the other is cut across
    its longer side into crops that are about square, 2 to `most` of them, unless one of their sides would be
    shorter than `min_crop` pixels.

    tiles is ours: a picture of any shape is cut into tiles x tiles crops instead, again unless they would
    be shorter than `min_crop`. Gemma was not trained with rows of crops, but small print in a large square
    picture is lost otherwise.
    """

    min_crop: int = 256
    most: int = 4
    ratio: float = 1.2
    tiles: int | None = None

    def __post_init__(self) -> None:
        if not _whole(self.min_crop, 1) or not _whole(self.most, 1):
            raise PromptError("min_crop and most of pan & scan must be whole numbers from 1")
        if type(self.ratio) not in (int, float) or not 0 < self.ratio < math.inf:
            raise PromptError("ratio of pan & scan must be a positive number")
        if self.tiles is not None and not (_whole(self.tiles, 2) and self.tiles <= MAX_TILES):
            raise PromptError(f"tiles must be a whole number from 2 to {MAX_TILES}")

    def boxes(self, width: int, height: int) -> list[Box]:
        """The crops of a picture in the order in which the model sees them; [] when the whole is enough."""
        across, down = self._grid(width, height)
        if not across:
            return []
        w, h = math.ceil(width / across), math.ceil(height / down)
        if min(w, h) < self.min_crop:
            return []
        return [
            (left, top, min(left + w, width), min(top + h, height))
            for top in range(0, height, h)
            for left in range(0, width, w)
        ]

    def _grid(self, width: int, height: int) -> tuple[int, int]:
        """Crops across and down, (0, 0) for none."""
        if self.tiles:
            return self.tiles, self.tiles
        longer, shorter = max(width, height), min(width, height)
        if longer / shorter < self.ratio:
            return 0, 0
        wanted = min(math.floor(longer / shorter + 0.5), longer // self.min_crop)
        number = min(max(2, wanted), self.most)
        return (number, 1) if width >= height else (1, number)


def pan_and_scan_of(value: object, tiles: object = None) -> PanAndScan | None:
    """What a user means by pan_and_scan=True, False, or a PanAndScan, and by tiles=2. PromptError."""
    if tiles is not None:
        given = value if isinstance(value, PanAndScan) else PanAndScan()
        return PanAndScan(given.min_crop, given.most, given.ratio, tiles)  # type: ignore[arg-type]  # checked there
    if value is None or value is False:
        return None
    if value is True:
        return PanAndScan()
    if isinstance(value, PanAndScan):
        return value
    raise PromptError("pan_and_scan must be True, False, or a PanAndScan(min_crop=256, most=4, ratio=1.2)")


def _whole(value: object, low: int) -> bool:
    return type(value) is int and value >= low
