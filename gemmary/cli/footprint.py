"""`gemmary train --plan 27b --chips 64xH100`: what a run would need, before anybody pays for it. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from ..config import SIZES
from ..errors import GemmaryError

if TYPE_CHECKING:
    from ..config import Config
    from ..train.chips import Chip
    from ..train.footprint import Footprint

SHOWN = 4  # splits of the table
MACHINE = 8  # most chips of one
PARTS = {
    "weights": "weights, float32",
    "optimizer": "optimizer states",
    "average": "average of weights",
    "gradients": "gradients",
    "gathered": "layers and table, gathered",
    "activations": "activations",
    "loss": "loss: a chunk of logits",
    "update": "update",
}


def show_plan(
    size: str, chips: str, row: int = 8192, tokens: int = 1 << 21, muon: bool = True, ema: bool = False
) -> None:
    """Print memory a chip and time a step of training `size` on `chips` ("64xH100"), split as runs fastest.

    `row`: tokens of a row, `tokens`: of a step; `muon`, `ema`: as in a plan. GemmaryError: a size or a chip
    is not known. A plan that does not fit is no error: what would fit is printed.
    """
    from ..train.chips import read_chips
    from ..train.footprint import RESERVE, UTILISATION, best
    from ..train.split import Work

    config = _config(size, row)
    count, chip = read_chips(chips)
    found = best(config, chip, count, Work(row, muon=muon, ema=ema), tokens)
    first = found[0]
    print(f"Gemma 3 {config.name} on {count} x {chip.name} of {_gb(chip.memory)}: the text model, rows of "
          f"{row:,} tokens, {first.work.tokens(first.split):,} tokens a step")  # fmt: skip
    print()
    for line in (*_table(found[:SHOWN]), "", *_memory(first, RESERVE), "", *_time(first, UTILISATION)):
        print(line)
    print()
    for line in _advice(first, tokens) if first.spare < 0 else [_command(first)]:
        print(line)


def _config(size: str, row: int) -> Config:
    config = SIZES.get(size.lower())
    if config is None:
        raise GemmaryError(f"--plan {size!r}: no such size; known: {', '.join(SIZES)}")
    if not 2 <= row <= config.context:
        raise GemmaryError(f"rows of {row:,} tokens: {config.name} reads 2 to {config.context:,}")
    return config


def _table(found: list[Footprint]) -> Iterator[str]:
    heads = ("rows", 7), ("recomputed", 11), ("memory", 9), ("step", 9), ("tokens/s", 11)
    yield f"  {'replicas x shards':18} {' '.join(f'{head:>{width}}' for head, width in heads)}"
    for number, plan in enumerate(found):
        split, work = plan.split, plan.work
        mark = "*" if number == 0 and plan.spare >= 0 else " "
        fit = "" if plan.spare >= 0 else "  does not fit"
        yield (
            f"{mark} {f'{split.replicas} x {split.shards}':18} {f'{work.rows} x {work.parts}':>7} "
            f"{'layers' if work.recompute else 'nothing':>11} {_gb(plan.memory.total):>9} "
            f"{_seconds(plan.time.total):>9} {plan.speed:>11,.0f}{fit}"
        )


def _memory(plan: Footprint, reserve: float) -> Iterator[str]:
    yield "Memory of a chip at the worst moment of a step"
    for name, value in vars(plan.memory).items():
        if value:
            yield f"  {PARTS[name]:28} {_gb(value):>10}"
    yield f"  {'all':28} {_gb(plan.memory.total):>10}"
    yield f"  {f'kept free ({reserve:.0%})':28} {_gb(plan.chip.memory * reserve):>10}"
    yield f"  {'left' if plan.spare >= 0 else 'lacking':28} {_gb(abs(plan.spare)):>10}"


def _time(plan: Footprint, utilisation: float) -> Iterator[str]:
    time = plan.time
    yield "Time of a step"
    rate = f"at {utilisation:.0%} of {plan.chip.peak / 1e12:,.0f} Tflop/s"
    yield f"  {'compute':28} {_seconds(time.compute):>10}  {rate}"
    for name, value in (("gather and sum in shards", time.shards), ("sum over replicas", time.replicas)):
        if value:
            yield f"  {name:28} {_seconds(value):>10}  behind the compute as far as it goes"
    if time.update:
        yield f"  {'update':28} {_seconds(time.update):>10}"
    yield f"  {'all':28} {_seconds(time.total):>10}  {plan.utilisation:.0%} of the peak does useful work"


def _advice(plan: Footprint, tokens: int) -> Iterator[str]:
    """What to change so that it fits: each line is a plan that was counted."""
    from ..train.chips import CHIPS
    from ..train.footprint import best

    config, chip, count, work = plan.config, plan.chip, plan.split.chips, plan.work
    yield f"It does not fit: the smallest split lacks {_gb(-plan.spare)} on every chip. What would fit:"
    fitting = False

    def fits(chip: Chip, count: int, row: int) -> bool:
        return best(config, chip, count, replace(work, row=row), tokens)[0].spare >= 0

    rows = (work.row >> halvings for halvings in range(1, 12) if work.row >> halvings >= 128)
    for row in rows:
        if fits(chip, count, row):
            yield f"  rows of {row:,} tokens"
            fitting = True
            break
    for more in (count << doublings for doublings in range(1, 8)):
        if fits(chip, more, work.row):
            yield f"  {more} x {chip.name}"
            fitting = True
            break
    for other in CHIPS.values():
        if other.memory > chip.memory and fits(other, count, work.row):
            yield f"  {count} x {other.name} of {_gb(other.memory)}"
            fitting = True
    if not fitting:
        yield "  none of shorter rows, more chips, larger chips alone: change several, or take a smaller size"


def _command(plan: Footprint) -> str:
    count = plan.split.chips
    if plan.chip.name.startswith("TPU"):
        return "Gemmary trains on CUDA devices and CPUs; TPUs are counted for comparison with the report."
    if count == 1:
        return "Start it with:\n  gemmary train PLAN.toml"
    machine = max(size for size in range(1, MACHINE + 1) if count % size == 0)
    among, rendezvous = "", ""
    if count > machine:
        among = f" on each of {count // machine} machines, one of them called FIRST,"
        rendezvous = f"--nnodes {count // machine} --rdzv-backend c10d --rdzv-endpoint FIRST:29500 "
    cut = f" with shards = {plan.split.shards} below [train] in PLAN.toml," if plan.split.replicas > 1 else ""
    return (
        f"Start it{cut}{among} with:\n"
        f"  torchrun {rendezvous}--nproc-per-node {machine} -m gemmary train PLAN.toml"
    )


def _gb(count: float) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e8 else f"{count / 1e6:,.1f} MB"


def _seconds(count: float) -> str:
    return f"{count:,.2f} s" if count >= 0.1 else f"{count * 1e3:,.2f} ms"
