"""All of Gemma 3, in Python: run it, see with it, serve it, train it, measure it.

import gemmary

model = gemmary.load()  # the bundled model; or a GGUF file, a folder, a Hugging Face id
print(model.chat([{"role": "user", "content": "How do I list the contents of a tar archive?"}]).text)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import errors

if TYPE_CHECKING:
    from .engine.answer import Stream
    from .engine.load import estimate, load
    from .engine.memory import Estimate
    from .engine.model import Model
    from .engine.reply import Piece, Reply
    from .engine.score import Score
    from .inputs.crops import PanAndScan
    from .inputs.prompt import Prompt

__version__ = "0.1.0"
__all__ = [
    "Estimate",
    "Model",
    "PanAndScan",
    "Piece",
    "Prompt",
    "Reply",
    "Score",
    "Stream",
    "errors",
    "estimate",
    "load",
]


def __getattr__(name: str) -> Any:
    """Public names are imported when one is first used: `import gemmary` itself is instant."""
    if name not in __all__:
        raise AttributeError(f"module 'gemmary' has no attribute {name!r}")
    from .engine.answer import Stream
    from .engine.load import estimate, load
    from .engine.memory import Estimate
    from .engine.model import Model
    from .engine.reply import Piece, Reply
    from .engine.score import Score
    from .inputs.crops import PanAndScan
    from .inputs.prompt import Prompt

    names = (Estimate, Model, PanAndScan, Piece, Prompt, Reply, Score, Stream, estimate, load)
    globals().update({public.__name__: public for public in names})
    return globals()[name]


def __dir__() -> list[str]:
    return sorted([*globals(), *(name for name in __all__ if name not in globals())])
