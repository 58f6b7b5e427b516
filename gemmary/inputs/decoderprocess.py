"""The worker that decodes pictures, seen from the process that holds the model.

One worker serves the whole process. It starts with the first picture, stays warm, and is replaced when it
dies.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO

import numpy as np
import PIL

from ..errors import ImageError
from . import signatures
from .decoder import ANSWER, MAX_PIXELS, MAX_SIDE, REQUEST, Fault
from .prompt import Picture

START = "import sys; sys.path += sys.argv[1:]; from gemmary.inputs.decoder import serve; serve()"
FOLDERS = tuple(str(Path(file).parents[up]) for file, up in ((__file__, 2), (PIL.__file__, 1)))
WALL_SECONDS = 30  # a picture; time that the worker did not get counts too
PIPE = 1 << 20  # bytes; the default of 64 KiB makes a large picture wait

SENTENCES = {
    Fault.UNKNOWN: signatures.UNKNOWN,
    Fault.DAMAGED: "the picture is damaged or cut short: save or download it again",
    Fault.LARGE: f"the picture is too large: make it smaller than {MAX_PIXELS // 10**6} million pixels, "
    f"with at most {MAX_SIDE:,} on a side",
    Fault.COLOURS: "the colours of this picture are of a kind that is not read: save it as 8-bit RGB",
    Fault.MEMORY: "the picture takes too much memory to decode: make it smaller, or save it as PNG or JPEG",
}
SLOW = "the picture takes too long to decode: make it smaller, or save it as PNG or JPEG"
STOPPED = "the picture could not be decoded, the decoder stopped: save it again as PNG or JPEG"
NO_START = "the process that decodes pictures could not be started: this Python cannot run itself anew"


class DecoderProcess:
    """Decodes one picture at a time; threads wait for one another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def decode(self, data: bytes) -> Picture:
        """The first frame, upright, as uint8 RGB [height, width, 3]. ImageError."""
        with self._lock:
            process = self._running()
            late = threading.Event()
            watchdog = threading.Timer(WALL_SECONDS, _stop, (process, late))
            watchdog.daemon = True
            watchdog.start()
            try:
                found = _exchange(process, data)
            except (OSError, EOFError):
                self._end()
                raise ImageError(SLOW if late.is_set() or _spent(process) else STOPPED) from None
            except BaseException:  # Ctrl-C in the middle: half an answer is under way
                self._end()
                raise
            finally:
                watchdog.cancel()
            if found is Fault.MEMORY:  # what a decoder leaves behind when memory fails is not to be trusted
                self._end()
        if isinstance(found, Fault):
            raise ImageError(SENTENCES[found])
        return found

    def close(self) -> None:
        """End the worker. The next picture starts another."""
        with self._lock:
            self._end()

    def kill(self) -> None:
        """End the worker whatever it does: this process ends and waits for no picture."""
        if process := self._process:
            process.kill()
            process.wait()

    def abandon(self) -> None:
        """In a forked child: the worker is the parent's, and ends when nobody else holds its pipes."""
        if self._process:
            for pipe in (self._process.stdin, self._process.stdout):
                pipe.raw.close()  # type: ignore[union-attr]  # not through the buffer: its lock may be held

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._end()
            self._process = _started()
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with suppress(OSError):  # what was not sent is lost
                pipe.close()  # type: ignore[union-attr]


def _started() -> subprocess.Popen[bytes]:
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", START, *FOLDERS],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
    except OSError:
        raise ImageError(NO_START) from None
    if sys.platform == "linux":
        import fcntl

        for pipe in (process.stdin, process.stdout):
            with suppress(OSError):  # a user may have only so much of it
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE)  # type: ignore[arg-type]
    return process


def _exchange(process: subprocess.Popen[bytes], data: bytes) -> Picture | Fault:
    """Ask and be answered. What the worker says is checked: it may be in a stranger's hands."""
    asked, answers = process.stdin, process.stdout
    if asked is None or answers is None:
        raise EOFError
    asked.write(REQUEST.pack(len(data)))
    asked.write(data)
    asked.flush()
    header = bytearray(ANSWER.size)
    _fill(answers, memoryview(header))
    fault, width, height = ANSWER.unpack(header)
    if fault in SENTENCES:
        return Fault(fault)
    if fault or not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and width * height <= MAX_PIXELS):
        raise EOFError
    picture = np.empty((height, width, 3), np.uint8)
    _fill(answers, picture.data.cast("B"))
    return picture


def _fill(answers: IO[bytes], into: memoryview) -> None:
    if answers.readinto(into) != len(into):  # type: ignore[attr-defined]  # a buffered reader
        raise EOFError


def _stop(process: subprocess.Popen[bytes], late: threading.Event) -> None:
    late.set()
    process.kill()


def _spent(process: subprocess.Popen[bytes]) -> bool:
    """Whether the system ended the worker because its time was over."""
    if sys.platform == "win32":
        return False
    import signal

    return process.returncode == -signal.SIGXCPU


DECODER = DecoderProcess()


def _in_forked_child() -> None:
    global DECODER
    DECODER.abandon()
    DECODER = DecoderProcess()


def decode(data: bytes) -> Picture:
    """`DecoderProcess.decode` by the worker of this process."""
    return DECODER.decode(data)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_forked_child)
atexit.register(lambda: DECODER.kill())
