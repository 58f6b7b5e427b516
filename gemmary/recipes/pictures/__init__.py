"""Generated pictures whose contents are known: scenes of emoji, and short documents."""

from .drawn import Drawn
from .gallery import KINDS, Gallery, Kind

__all__ = ["KINDS", "Drawn", "Gallery", "Kind"]
