"""An answer while it is made: its pieces one by one, or all of it."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager
from types import TracebackType

from .reply import Piece, Reply
from .request import Run
from .sampling import Draw
from .transcript import Transcript


class Stream(Iterator[Piece], AbstractContextManager["Stream"]):
    """The pieces of an answer while it is made.

    close() ends it within 0.1 s, from any thread, and frees its memory; so do leaving a `with` and dropping
    the stream. A thread that waits for a piece meanwhile gets the last one, with finish_reason "cancelled".
    """

    def __init__(self, pieces: Generator[Piece, None, None], cancel: threading.Event, run: Run) -> None:
        self._pieces = pieces
        self._run = run
        self._inside = False
        self._cancel = cancel
        self._lock = threading.RLock()

    def __next__(self) -> Piece:
        with self._lock:
            self._inside = True
            try:
                return next(self._pieces)
            finally:
                self._inside = False

    @property
    def unseen(self) -> float:
        """Pictures that have to be encoded before the prompt is read further; it falls while they are."""
        return self._run.unseen

    def close(self) -> None:
        """End the answer. Closing twice, or after the end, does nothing."""
        self._cancel.set()
        with self._lock:
            if not self._inside:  # `progress` may close it from inside: then it ends by itself
                self._pieces.close()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Answer:
    """One request, as a stream of pieces or as a whole reply. Use one of the two, once."""

    def __init__(self, draws: Generator[Draw, None, None], transcript: Transcript) -> None:
        self._draws, self._transcript = draws, transcript

    def stream(self) -> Stream:
        """The answer piece by piece. Nothing is computed before the first is asked for."""
        transcript = self._transcript
        return Stream(self._pieces(), transcript.request.cancel, transcript.run)

    def reply(self) -> Reply:
        """The whole answer."""
        return self._transcript.reply(list(self._pieces()))

    def _pieces(self) -> Generator[Piece, None, None]:
        transcript = self._transcript
        try:
            for draw in self._draws:
                piece = transcript.push(draw)
                if transcript.over or transcript.run.end is not None:
                    break
                if piece is not None:
                    yield piece
        finally:
            self._draws.close()
        yield transcript.finish()
