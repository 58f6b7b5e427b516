"""Whatever a user calls a picture -> RGB pixels.

What is encoded (files, bytes, data URLs) is decoded by a worker process; see decoder.py. PIL images and
arrays are in this process already and stay here. All of them give the same pixels for the same picture.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import ImageError
from .dataurl import BIG_FILE, MAX_BYTES, from_data_url, is_data_url
from .decoder import MAX_PIXELS, MAX_SIDE, Fault, Refused, rgb, upright
from .decoderprocess import SENTENCES, decode
from .prompt import Picture
from .signatures import check_signature

WEB = re.compile(r"\s*(?:https?|ftp)://", re.IGNORECASE)

ACCEPTED = "a picture must be a path, the bytes of a file, a data URL, a PIL image or a NumPy array [h, w, 3]"
REMOTE = "pictures on the web are not fetched: download the picture and give its path"
NO_FILE = "there is no such file: check the path of the picture"
NO_ACCESS = "the file of the picture cannot be read: check who may read it"
NO_PLAIN_FILE = "this is a folder or a device: give the path of a picture"
EMPTY = "the picture is empty: it has no bytes or no pixels"
SHAPE = "an array must have the shape [height, width], or [height, width, channels] with 1, 3 or 4 channels"
NUMBERS = "an array must hold whole numbers 0 to 255 (uint8), or floating-point numbers from 0 to 1"


def read_picture(source: object) -> Picture:
    """Pixels of a picture as uint8 RGB [height, width, 3].

    source: a path (str or Path), the bytes of a file, a data URL, a PIL image, or an array [h, w],
    [h, w, 1], [h, w, 3] or [h, w, 4] of uint8 or of floats from 0 to 1; or a function that gives one of these
    when the picture's turn has come.

    The picture stands upright (EXIF), is the first frame of an animation, and lies on white where it is
    transparent. JPEG, PNG, WebP, GIF, BMP and TIFF are read. ImageError, one of a fixed set of sentences.
    """
    if callable(source):
        source = source()
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, Image.Image):
        return _from_image(source)
    return _from_bytes(encoded(source))


def encoded(source: object) -> bytes:
    """What a path or a data URL leads to, not decoded yet; bytes are what they are. ImageError."""
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    if isinstance(source, str):
        if is_data_url(source):
            return from_data_url(source)
        if WEB.match(source):
            raise ImageError(REMOTE)
    if not isinstance(source, str | os.PathLike):
        raise ImageError(ACCEPTED)
    return _file(source)


def _file(path: str | os.PathLike[str]) -> bytes:
    """At most MAX_BYTES of a regular file."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ImageError(NO_PLAIN_FILE)
        with Path(path).open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except PermissionError:
        raise ImageError(NO_ACCESS) from None
    except (OSError, ValueError) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(NO_FILE) from None


def _from_bytes(data: bytes) -> Picture:
    if not data:
        raise ImageError(EMPTY)
    if len(data) > MAX_BYTES:
        raise ImageError(BIG_FILE)
    check_signature(data)
    return decode(data)


def _from_image(image: Image.Image) -> Picture:
    if not all(image.size):
        raise ImageError(EMPTY)
    try:
        return np.array(rgb(upright(image)))
    except Refused as refused:
        raise ImageError(SENTENCES[refused.fault]) from None


def _from_array(array: np.ndarray) -> Picture:
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise ImageError(SHAPE)
    height, width, channels = array.shape
    if not width or not height:
        raise ImageError(EMPTY)
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise ImageError(SENTENCES[Fault.LARGE])
    if array.dtype.kind == "f" and 0 <= array.min() <= array.max() <= 1:  # not so if one of them is NaN
        array = np.rint(array * 255).astype(np.uint8)
    if array.dtype != np.uint8:
        raise ImageError(NUMBERS)
    if channels == 4:
        return np.array(rgb(Image.fromarray(array)))
    return np.array(np.broadcast_to(array, (height, width, 3)))
