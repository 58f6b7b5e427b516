"""The report is one file that needs nothing else, says what happened, and is made of whatever a run left."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from gemmary.errors import GemmaryError
from gemmary.train import history, runpage
from gemmary.train.about import About
from tests.train import toys

CLOSED = ("style", "figure", "svg", "div", "table", "h1", "h2", "p", "b", "figcaption", "span", "title")
KNOWN = About(
    plan={"steps": 400, "learning": {"peak": 3e-3}, "note": "<script>alert(1)</script>"},
    config={"name": "toy", "width": 32},
    data={"data": "0123abcd"},
    parameters=67_040,
    device="NVIDIA H100",
    flops=1e9,
    peak=1e14,
    versions={"torch": "2.13"},
    commit="8600fa41aae1",
)


def log(folder: Path, count: int, bad: tuple[int, ...] = ()) -> None:
    """A run of `count` steps, half a second and 1,000 tokens each."""
    with (folder / "log.jsonl").open("w", encoding="utf-8") as file:
        for step in range(1, count + 1):
            loss = math.nan if step in bad else 1 + 4 / step
            record = {"step": step, "loss": loss, "norm": 0.5, "rate": 3e-3, "tokens": 1000, "seconds": 0.5}
            file.write(json.dumps({**record, "picture loss": 2 * loss}) + "\n")


def text(page: str) -> str:
    """What a reader sees, with single blanks. A tag that is not closed where it must be is an error."""
    open_tags: list[str] = []
    words: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attributes: object) -> None:
            if tag in CLOSED:
                open_tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            if tag in CLOSED:
                assert open_tags.pop() == tag

        def handle_data(self, data: str) -> None:
            if "style" not in open_tags:
                words.append(data)

    Reader().feed(page)
    assert open_tags == []
    return " ".join(" ".join(words).split())


def test_it_says_what_the_run_was_and_what_happened(tmp_path: Path) -> None:
    log(tmp_path, 400, bad=(7, 200, 201))
    KNOWN.write(tmp_path)
    for step, what in ((0, "began"), (100, "went on from step 100"), (400, "ended")):
        history.add(tmp_path, step, what)
    seen = text(runpage.page(tmp_path))
    for expected in (
        "400 of 400 steps · it ended", "In 3 steps the loss", "400 k tokens", "3 min time",
        "2,000 tokens a second", "2 TFLOP/s", "2.0 % of the device's peak", "67 k parameters",
        "learning peak 0.003", "data 0123abcd", "device NVIDIA H100", "commit 8600fa41aae1", "torch 2.13",
        "operations a token 1 GFLOP",
        "picture loss",
    ):  # fmt: skip
        assert expected in seen
    order = [
        seen.index(what) for what in ("7 was skipped", "100 went on", "200 2 steps, up to 201", "400 ended")
    ]
    assert order == sorted(order)


def test_it_needs_nothing_from_anywhere(tmp_path: Path) -> None:
    log(tmp_path, 30)
    KNOWN.write(tmp_path)
    page = runpage.page(tmp_path)
    assert not re.search(r"<script|<link|<img|src=|href=|url\(|https?:|@import", page)
    assert "&lt;script&gt;" in page and "prefers-color-scheme: dark" in page


def test_a_page_of_a_long_run_stays_small(tmp_path: Path) -> None:
    log(tmp_path, 5_000, bad=tuple(range(1, 5_000, 3)))
    page = runpage.page(tmp_path)
    assert len(page) < 300_000 and "and 1,647 more times" in page


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "The log has no step yet."),
        (b'{"step": 1, "lo', "The log has no step that can be read."),
        (b"\xff\xfe\x00\x00", "The log has no step that can be read."),
        (b'{"step": 1, "loss": 2.0, "tokens": 5}\n{"step": 2, "lo', "1 line of the log could not be read"),
        (b'{"step": 1, "loss": NaN, "tokens": 5}\n' * 2, "In 1 step the loss"),
        (b'{"step": 5, "loss": 1e400, "tokens": 0, "seconds": 0, "norm": -Infinity}\n', "In 1 step the loss"),
    ],
)
def test_whatever_is_left_of_a_log_there_is_a_page_and_it_says_so(
    tmp_path: Path, content: bytes, said: str
) -> None:
    (tmp_path / "log.jsonl").write_bytes(content)
    assert said in text(runpage.page(tmp_path))


def test_a_broken_history_and_a_broken_run_json(tmp_path: Path) -> None:
    log(tmp_path, 3)
    (tmp_path / "history.jsonl").write_text('{"step": 1, "what": "began"}\n{"step": "x"}\n[]\n{"st')
    (tmp_path / "run.json").write_text('{"plan": {"steps": "many"}, "flops": "x", "peak": []}')
    assert "3 steps · it still runs, or was cut off" in text(runpage.page(tmp_path))


def test_a_real_run_makes_one_and_the_command_makes_it_again(tmp_path: Path) -> None:
    toys.trainer(tmp_path, 3).run()
    path = tmp_path / "report.html"
    first = path.read_text(encoding="utf-8")
    assert "3 of 3 steps · it ended" in text(first) and "width 32" in text(first)
    path.unlink()
    assert runpage.main([str(tmp_path)]) == 0
    assert path.read_text(encoding="utf-8") == first


def test_a_folder_that_is_no_run_is_an_error_with_advice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert runpage.main([str(tmp_path)]) == 1
    assert "give the folder of a run" in capsys.readouterr().err
    with pytest.raises(GemmaryError):
        runpage.write(tmp_path / "nowhere")
