"""`gemmary train --plan`: the plan as people read it."""

from __future__ import annotations

import re

import pytest

from gemmary.cli.footprint import show_plan
from gemmary.errors import GemmaryError


def said(capsys: pytest.CaptureFixture[str], *arguments: str, row: int = 8192) -> str:
    show_plan(*arguments, row=row)
    return capsys.readouterr().out


def test_a_plan_that_fits_ends_with_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "27b", "64xH100")
    assert text.startswith("Gemma 3 27b on 64 x H100 of 80.0 GB")
    assert re.search(r"^\* 1 x 64 .* GB .* s +[\d,]+$", text, re.MULTILINE)
    assert re.search(r"weights, float32 +1\.7 GB", text)  # 27 billion times 4 bytes over 64
    assert text.endswith(
        "Start it on each of 8 machines, one of them called FIRST, with:\n"
        "  torchrun --nnodes 8 --rdzv-backend c10d --rdzv-endpoint FIRST:29500 --nproc-per-node 8 "
        "-m gemmary train PLAN.toml\n"
    )


@pytest.mark.parametrize(
    ("chips", "end"),
    [
        ("1xH100", "Start it with:\n  gemmary train PLAN.toml\n"),
        ("8xH100", "Start it with:\n  torchrun --nproc-per-node 8 -m gemmary train PLAN.toml\n"),
        ("12xH100", "--nnodes 2 --rdzv-backend c10d --rdzv-endpoint FIRST:29500 --nproc-per-node 6 "
                    "-m gemmary train PLAN.toml\n"),
    ],
)  # fmt: skip
def test_the_command_starts_as_many_processes_as_there_are_chips(
    capsys: pytest.CaptureFixture[str], chips: str, end: str
) -> None:
    assert said(capsys, "270m", chips).endswith(end)


def test_replicas_are_in_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "270m", "256xH100")
    assert re.search(r"^\* 4 x 64 ", text, re.MULTILINE)
    assert "Start it with shards = 64 below [train] in PLAN.toml, on each of 32 machines" in text


def test_parts_add_up(capsys: pytest.CaptureFixture[str]) -> None:
    block = said(capsys, "4b", "8xH200").split("\n\n")[2].splitlines()[1:]
    sizes = [float(re.findall(r"([\d.]+) GB", line)[0]) for line in block]
    *parts, whole, free, left = sizes
    assert sum(parts) == pytest.approx(whole, abs=0.3)
    assert whole + free + left == pytest.approx(141, abs=0.3)


def test_a_plan_that_does_not_fit_says_what_would(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "27b", "4xA100")
    assert "does not fit" in text and "*" not in text
    _, advice = text.split("What would fit:\n")
    assert "  8 x A100\n" in advice and "  4 x H200 of 141.0 GB\n" in advice
    assert "Start it" not in text
    assert "does not fit" not in said(capsys, "27b", "8xA100").splitlines()[3]


@pytest.mark.parametrize(
    "size, chips, row, fault",
    [("28b", "8xH100", 8192, "known: 270m, 1b"), ("27b", "8xH1000", 8192, "H1000 is not known"),
     ("1b", "H100", 65_536, "1b reads 2 to 32,768"), ("1b", "H100", 1, "reads 2 to")],
)  # fmt: skip
def test_what_is_not_known_is_refused(size: str, chips: str, row: int, fault: str) -> None:
    with pytest.raises(GemmaryError, match=fault):
        show_plan(size, chips, row)
