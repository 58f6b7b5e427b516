"""What a model holds in memory right now."""

from __future__ import annotations

import gemmary


def settled(model: gemmary.Model) -> tuple[int, int]:
    """Bytes of pages held, and bytes left when snapshots are forgotten, behind all queued work."""

    def count() -> tuple[int, int]:
        runner = model._runner
        assert runner is not None
        held = runner.pages.bytes_used
        runner.snapshots.clear()
        return held, runner.pages.bytes_used

    return model._thread.run(count)


def snapshots(model: gemmary.Model) -> int:
    """How many texts the model remembers."""
    runner = model._runner
    assert runner is not None
    return model._thread.run(lambda: len(runner.snapshots))
