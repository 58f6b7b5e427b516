"""Ctrl-C and SIGTERM in a long run: the first asks for an orderly end, the second ends at once."""

from __future__ import annotations

import signal
import sys
import threading
from queue import SimpleQueue
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
STOPPING = "\nStopping after this step, with a checkpoint. Once more stops at once."


class Interrupt:
    """While the block runs, `asked` tells whether somebody wants its end. Only the main thread can listen.

    A signal may come while a live view is being drawn, and what is printed in its midst would leave parts of
    the view behind. So a thread of its own says that the wish was heard, as soon as the view is whole.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}
        self._lines: SimpleQueue[str | None] = SimpleQueue()  # of all queues the one that handlers may use
        self._speaker = threading.Thread(target=self._speak, daemon=True)

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            self._speaker.start()
            self._before = {number: signal.signal(number, self._ask) for number in SIGNALS}
        return self

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        self._restore()  # first: the second may come while this is being said
        self._lines.put(STOPPING)

    def _speak(self) -> None:
        while (line := self._lines.get()) is not None:
            print(line, file=sys.stderr)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()
        if self._speaker.is_alive():
            self._lines.put(None)
            self._speaker.join()
