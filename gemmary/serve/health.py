"""Whether the server can answer: it loads, it stops, or its engine hangs."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import sys
from typing import Literal

from .accounts import Accounts, HungError
from .models import Models

log = logging.getLogger("gemmary.serve")
State = Literal["ok", "loading", "stopping", "hung"]
POLL = 1.0  # seconds


class Health:
    """The state of a server. `starting` and `stopping` are set by who runs it."""

    def __init__(self, models: Models, hang: float) -> None:
        """`hang`: seconds after which a step that does not end is a fault."""
        self.starting = self.stopping = False
        self._models, self._hang = models, hang

    @property
    def state(self) -> State:
        """What it is now."""
        if self.stopping:
            return "stopping"
        if self.starting:
            return "loading"
        return "hung" if self.hung else "ok"

    @property
    def hung(self) -> bool:
        """Whether an engine has work and does nothing. While one model is loaded the others wait."""
        if self._models.loading:
            return False
        schedulers = (model.scheduler for model in self._models.loaded.values())
        return any(scheduler is not None and scheduler.silent > self._hang for scheduler in schedulers)

    async def watch(self, accounts: Accounts) -> None:
        """Tell the log, and whoever waits for an answer, when an engine hangs and when it goes on."""
        was = False
        while True:
            await asyncio.sleep(min(POLL, self._hang / 4))
            if self.hung and not was:
                log.error("the engine hangs; where its threads are follows")
                _dump()
                accounts.fail(HungError())
            elif was and not self.hung:
                log.warning("the engine goes on")
            was = self.hung


def _dump() -> None:
    """Names of functions of all threads, to stderr. No values: nothing of a prompt comes in."""
    try:
        faulthandler.dump_traceback(sys.__stderr__ or sys.stderr)
    except (OSError, ValueError, AttributeError):
        log.error("stderr is closed: no threads to show")
