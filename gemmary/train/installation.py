"""Whether what training needs is installed; nothing here needs it."""

from __future__ import annotations

from ..errors import GemmaryError


def check_installed() -> None:
    """GemmaryError: PyTorch is not there."""
    try:
        import torch  # noqa: F401
    except ImportError:
        raise GemmaryError(
            "training needs PyTorch, which is not installed: pip install 'gemmary[train]'"
        ) from None
