"""A terminal for tests: a program runs in it, keys go in, the screen's bytes come out."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from fcntl import ioctl
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).parents[2]
FAKE = str(Path(__file__).with_name("fake_chat.py"))
SECONDS = 20.0
UNWANTED = ("NO_COLOR", "HF_TOKEN", "COLUMNS", "LINES")  # the last two would hide the terminal's own size
ESCAPE = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07]*\x07|[=>])")


class Terminal:
    """`python words...` in a terminal of its own. `text` is everything that it wrote so far."""

    def __init__(self, *words: str, home: Path, columns: int = 100, **env: str) -> None:
        self.text = ""
        self._seen = 0
        self._master, slave = pty.openpty()
        ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        fixed = {
            "TERM": "xterm",
            "PYTHONPATH": str(ROOT),
            "HOME": str(home),
            "XDG_STATE_HOME": str(home / "s"),
        }
        clean = {key: value for key, value in os.environ.items() if key not in UNWANTED}
        self._process = subprocess.Popen(
            [sys.executable, *words], stdin=slave, stdout=slave, stderr=slave, cwd=home,
            env=clean | fixed | env, start_new_session=True, preexec_fn=_own_terminal,
        )  # fmt: skip
        os.close(slave)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        os.close(self._master)

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._master, keys.encode())

    def expect(self, text: str) -> str:
        """Wait until `text` appears behind what was expected before; what came up to its end."""
        end = time.monotonic() + SECONDS
        while (found := self.plain.find(text, self._seen)) < 0:
            assert time.monotonic() < end, f"{text!r} never came after:\n{self.plain[self._seen :]}"
            self._read(0.05)
        before, self._seen = self._seen, found + len(text)
        return self.plain[before : self._seen]

    def idle(self, seconds: float) -> str:
        """What comes within `seconds`."""
        end, before = time.monotonic() + seconds, len(self.plain)
        while (left := end - time.monotonic()) > 0:
            self._read(left)
        return self.plain[before:]

    def ended(self) -> int:
        """Wait for the program's end; its exit status."""
        end = time.monotonic() + SECONDS
        while self._process.poll() is None:
            assert time.monotonic() < end, f"it goes on:\n{self.plain[-500:]}"
            self._read(0.05)
        self._read(0.0)
        return self._process.returncode

    @property
    def plain(self) -> str:
        """`text` without escape sequences and carriage returns."""
        return ESCAPE.sub("", self.text).replace("\r", "")

    def _read(self, wait: float) -> None:
        if select.select([self._master], [], [], wait)[0]:
            try:
                data = os.read(self._master, 1 << 16)
            except OSError:  # the other side is closed
                time.sleep(min(wait, 0.02))
                return
            self.text += data.decode("utf-8", "replace")
            if "\x1b[6n" in data.decode("latin-1"):
                os.write(self._master, b"\x1b[1;1R")  # "where is the cursor?"


def _own_terminal() -> None:
    """Ctrl-C on the terminal reaches the program, as in a shell."""
    ioctl(0, termios.TIOCSCTTY, 0)
