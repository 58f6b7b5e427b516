"""What the worker process runs: encoded pictures in, plain pixels out.

Decoders are written in C and read what strangers made, so they run apart from the process that holds the
model: with little memory and time, no file to open, and six formats only. NumPy is
not imported here, so that the worker starts quickly.

Asked through stdin: a length (8 bytes), then a file of that length. Answered through stdout: a fault, width
and height (4 bytes each, all little-endian), then width * height * 3 bytes of RGB, row by row, if the fault
is 0.
"""

from __future__ import annotations

import io
import os
import signal
import struct
import sys
import warnings
from contextlib import suppress
from enum import IntEnum
from typing import BinaryIO

from PIL import Image, ImageOps
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.MpoImagePlugin import MpoImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

# All formats are loaded before no more files may be opened. MPO, what cameras write with two pictures in
# one file, is opened as JPEG and has no name of its own to ask for.
CODECS = (JpegImageFile, PngImageFile, WebPImageFile, GifImageFile, BmpImageFile, TiffImageFile, MpoImageFile)
FORMATS = tuple(codec.format for codec in CODECS if codec is not MpoImageFile)
MAX_PIXELS = 1 << 26  # 67 million: the largest sensors of phones in their usual mode
MAX_SIDE = 1 << 15
MAX_MEMORY = 2 << 30  # bytes of addresses; 67 million pixels with alpha take 1.3 GB
CPU_SECONDS = 10  # a picture
ORIENTATION = 0x0112  # the EXIF tag
UPPER_BITS = [value >> 8 for value in range(1 << 16)]
STRIP = 1 << 20  # pixels that are converted and sent at once

REQUEST = struct.Struct("<Q")
ANSWER = struct.Struct("<III")


class Fault(IntEnum):
    """Why a picture was not decoded."""

    NONE = 0
    UNKNOWN = 1  # none of the formats
    DAMAGED = 2
    LARGE = 3
    COLOURS = 4
    MEMORY = 5


class Refused(Exception):
    """A picture that is not decoded, and why."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.name)
        self.fault = fault


def decoded(data: bytes) -> Image.Image:
    """The first frame of a file, upright. Refused when there is none."""
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise Refused(Fault.LARGE) from None
    except MemoryError:
        raise Refused(Fault.MEMORY) from None
    except Exception:
        raise Refused(Fault.UNKNOWN) from None
    return upright(image)


def upright(image: Image.Image) -> Image.Image:
    """`image` loaded, and turned as its EXIF data say. Broken EXIF data are no reason to refuse a picture."""
    width, height = image.size
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise Refused(Fault.LARGE)
    try:
        image.load()
    except MemoryError:
        raise Refused(Fault.MEMORY) from None
    except Exception:
        raise Refused(Fault.DAMAGED) from None
    if not width or not height:
        raise Refused(Fault.DAMAGED)
    try:
        turned = image.getexif().get(ORIENTATION, 1) != 1
        return ImageOps.exif_transpose(image) if turned else image
    except MemoryError:
        raise Refused(Fault.MEMORY) from None
    except Exception:
        return image


def rgb(image: Image.Image) -> Image.Image:
    """`image` in RGB, 8 bits: what is transparent lies on white, as in transformers' Gemma3ImageProcessor.

    Of 16-bit grey the upper 8 bits are taken, as Pillow does for 16-bit colours (its own conversion of grey
    makes everything above 255 white). Refused: numbers whose range nobody knows (32-bit, float).
    """
    if image.mode.startswith("I;16"):
        image = image.convert("I").point(UPPER_BITS, "L")
    if image.mode in ("I", "F"):
        raise Refused(Fault.COLOURS)
    try:
        if "A" not in image.getbands() and image.info.get("transparency") is None:
            return image.convert("RGB")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    except MemoryError:
        raise Refused(Fault.MEMORY) from None
    except Exception:
        raise Refused(Fault.COLOURS) from None


def rehearse() -> None:
    """Decode each format once: Pillow imports parts of itself when it needs them, which is too late later."""
    for kind in FORMATS:
        file = io.BytesIO()
        Image.new("L", (1, 1)).save(file, kind)
        rgb(decoded(file.getvalue()))


def confine() -> None:
    """Take from this process what decoding does not need, as far as the system can."""
    with suppress(ImportError):  # Windows has no such limits
        import resource

        used = os.dup(0)
        os.close(used)  # `used` is the lowest free number: from here on nothing can be opened
        for limit, value in (
            (resource.RLIMIT_AS, MAX_MEMORY), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_NOFILE, used),
        ):  # fmt: skip
            with suppress(ValueError, OSError):  # macOS does not know all of them
                resource.setrlimit(limit, (value, value))


def grant_time() -> None:
    """CPU_SECONDS from now on; then the system ends this process."""
    with suppress(ImportError):
        import resource

        usage = resource.getrusage(resource.RUSAGE_SELF)
        limit = int(usage.ru_utime + usage.ru_stime) + CPU_SECONDS
        with suppress(ValueError, OSError):  # somebody has granted less
            resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def serve() -> None:
    """Answer until stdin ends, which it does when the asking process is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the chat
    asked, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
    rehearse()
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    confine()
    while request := asked.read(REQUEST.size):
        data = asked.read(*REQUEST.unpack(request))
        grant_time()
        answer(answers, data)


def answer(answers: BinaryIO, data: bytes) -> None:
    """Write the picture in `data`, or why there is none. Once pixels are sent, a fault ends the worker."""
    try:
        image = decoded(data)
        width, height = image.size
        rows = max(1, STRIP // width)
        strips = (image.crop((0, top, width, min(top + rows, height))) for top in range(0, height, rows))
        first = rgb(next(strips)).tobytes()
    except (Refused, MemoryError) as error:
        fault = error.fault if isinstance(error, Refused) else Fault.MEMORY
        answers.write(ANSWER.pack(fault, 0, 0))
    else:
        answers.write(ANSWER.pack(Fault.NONE, width, height) + first)
        for strip in strips:
            answers.write(rgb(strip).tobytes())
    answers.flush()
