"""Every study by name. A study is imported when it is asked for: not all of them need torch."""

from __future__ import annotations

from pathlib import Path

from ...errors import GemmaryError
from .study import Study

TITLES = {
    "ratio": "What fewer global layers cost in loss",
    "window": "What a shorter window of local layers costs in loss",
    "kv": "What keys and values take in memory",
    "teacher": "Whether a large teacher teaches better than a small one",
    "distill": "What learning from a teacher's sampled logits is worth",
    "rope": "What rescaling the positions of global layers does to long texts",
    "resolution": "What a tower loses when it sees pictures in fewer pixels",
    "scan": "What pan & scan adds on long pictures",
}


def find(name: str, data: Path, folder: Path, quick: bool = False) -> Study:
    """The study `name`. `data`: has books/; `folder`: for what is trained on the way.

    `quick`: seconds instead of minutes, to see that it runs; its numbers mean nothing. GemmaryError: there is
    no such study, or no such data.
    """
    if name not in TITLES:
        raise GemmaryError(f"there is no study {name!r}; there are {', '.join(TITLES)}")
    if name == "kv":
        from . import kv

        return kv.study(TITLES[name], quick)
    from . import distill, ratio, resolution, rope, scan, teacher, window
    from .lab import QUICK, Lab, Scale

    trained = {
        module.NAME: module.study for module in (ratio, window, teacher, distill, rope, resolution, scan)
    }
    return trained[name](Lab(data, folder, QUICK if quick else Scale()), TITLES[name], quick)
