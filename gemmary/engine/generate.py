"""The generation loop: draw after draw, while the engine thread computes the next ones."""

from __future__ import annotations

import time
from collections.abc import Generator

from .decoding import Decoding
from .request import Request, Run
from .runner import Runner
from .sampling import Draw, NotFiniteError
from .thread import Cancelled, EngineThread


def generate(runner: Runner, thread: EngineThread, request: Request, run: Run) -> Generator[Draw, None, None]:
    """Draw after draw; a stop token ends the run and is not yielded. Closing the iterator cancels.

    However it ends, the pages are given back, behind whatever the engine thread is doing.
    """
    decoding = Decoding(runner, request, run)
    sound = True
    try:
        thread.run(decoding.start)
        started = time.perf_counter()
        _read(thread, request, decoding)
        run.prefill_seconds = time.perf_counter() - started
        yield from _draws(thread, request, run, decoding)
    except Cancelled:
        run.end = "cancelled"
    except NotFiniteError:
        sound = False
        thread.later(runner.snapshots.clear)  # nothing of it may be read by the next request
        raise
    finally:
        run.end = run.end or "cancelled"
        thread.later(lambda: decoding.finish(keep=sound))


def _read(thread: EngineThread, request: Request, decoding: Decoding) -> None:
    """The prompt, chunk by chunk."""

    def report() -> None:
        if request.progress is not None and request.progress(decoding.length, len(request.ids)) is False:
            request.cancel.set()

    report()
    while decoding.length < len(request.ids):
        thread.run(decoding.read, request.cancel, report)
        report()


def _draws(
    thread: EngineThread, request: Request, run: Run, decoding: Decoding
) -> Generator[Draw, None, None]:
    while run.end is None:
        started = time.perf_counter()
        burst = thread.run(decoding.burst, request.cancel)
        run.decode_seconds += time.perf_counter() - started
        for number, draw in enumerate(burst.draws, 1):
            if number > 1 and request.cancel.is_set():
                raise Cancelled
            decoding.shown += 1
            if number == len(burst.draws):
                run.end = burst.end
            yield draw
        if burst.stopped:
            run.end = "stop"
