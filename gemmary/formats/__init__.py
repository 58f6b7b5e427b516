"""Number formats, bytes <-> values. Knows no model and no file; compiled code is imported on first use.

Kernels take the compiled one-block functions from `gemmary.formats.blocks`, `legacy_blocks` and `k_blocks`.
"""

from gemmary.formats.codec import decode, encode, encode_channels
from gemmary.formats.format import FORMATS, Format, FormatError, from_ggml_id

__all__ = ["FORMATS", "Format", "FormatError", "decode", "encode", "encode_channels", "from_ggml_id"]
