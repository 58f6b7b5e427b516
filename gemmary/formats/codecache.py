"""Where compiled code is kept between starts: a folder of this user only, one for each state of the sources.

Numba itself looks only at the file of the function that it loads, not at what was inlined from other files.
So the folder's name carries a hash of all sources that are compiled. Code in it is executed: hence mode 0700.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import numba

_PACKAGE = Path(__file__).parent.parent
_COMPILED = ("formats", "ops/numba")


def fingerprint() -> str:
    """Hash of every source that ends up in compiled code."""
    digest = hashlib.sha256(numba.__version__.encode())
    for folder in _COMPILED:
        for file in sorted((_PACKAGE / folder).rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def code_cache() -> Path:
    """The folder, made if need be; a temporary one where the home folder cannot be written."""
    root = os.environ.get("XDG_CACHE_HOME")
    kernels = (Path(root) if root else Path.home() / ".cache") / "gemmary" / "kernels"
    try:
        kernels.mkdir(parents=True, exist_ok=True, mode=0o700)
        kernels.chmod(0o700)
        folder = kernels / fingerprint()
        folder.mkdir(exist_ok=True, mode=0o700)
    except OSError:
        return Path(tempfile.mkdtemp(prefix="gemmary-kernels-"))
    return folder


if not os.environ.get("NUMBA_CACHE_DIR"):
    numba.config.CACHE_DIR = str(code_cache())  # type: ignore[attr-defined]
