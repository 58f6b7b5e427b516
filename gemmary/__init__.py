"""All of Gemma 3, in Python: run it, see with it, serve it, train it, measure it.

import gemmary
model = gemmary.load()                      # the bundled model; or a GGUF file, a folder, a Hugging Face id
print(model.chat([{"role": "user", "content": "How do I list the contents of a tar archive?"}]).text)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import errors

if TYPE_CHECKING:
    from .engine.load import estimate, load
    from .engine.memory import Estimate
    from .engine.model import Model, Score
    from .engine.reply import Piece, Reply

__version__ = "0.1.0"
__all__ = ["Estimate", "Model", "Piece", "Reply", "Score", "errors", "estimate", "load"]


def __getattr__(name: str) -> Any:
    """Public names are imported when they are first used: `import gemmary` itself is instant."""
    if name in ("estimate", "load"):
        from .engine import load as home
    elif name in ("Model", "Score"):
        from .engine import model as home  # type: ignore[no-redef]
    elif name in ("Piece", "Reply"):
        from .engine import reply as home  # type: ignore[no-redef]
    elif name == "Estimate":
        from .engine import memory as home  # type: ignore[no-redef]
    else:
        raise AttributeError(f"module 'gemmary' has no attribute {name!r}")
    value = getattr(home, name)
    globals()[name] = value
    return value
