"""What is timed is the real thing: tokens are counted right, and they are those that the model would say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gemmary
from gemmary.config import NANO
from gemmary.engine.host import free_memory, read_bandwidth
from gemmary.engine.measure import Subject
from gemmary.model.pages import page_bytes
from gemmary.ops.contract import GLOBAL, LOCAL
from gemmary.weights.checkpoint import open_checkpoint
from gemmary.weights.synthetic import Layout, random_checkpoint

ROOT = Path(__file__).parents[2]


@pytest.fixture
def subject() -> Subject:
    return Subject(random_checkpoint(NANO, Layout("Q4_0", "Q8_0")), threads=1)


def test_it_decodes_what_the_model_says(packed: Path) -> None:
    subject = Subject(open_checkpoint(packed), threads=1)
    subject.prefill(20)
    ids = [subject._word(place) for place in range(20)]
    with gemmary.load(packed, threads=1) as model:
        for _ in range(5):
            best = int(np.argmax(model.logits(ids, rows=[-1])[0]))
            assert subject._next == best
            ids.append(best)
            subject.decode(1)


def test_tasks_count_their_tokens(subject: Subject) -> None:
    subject.warm()
    assert subject.prefill(100)["tokens"] == 100
    assert subject.decode(3)["tokens"] == 3
    assert subject.extend(150)["tokens"] == 47
    done = subject.batch(8, 2, 40)
    assert done["tokens"] == 16 and done["seconds"] > 0


def test_time_limits_end_a_task_after_one_step(subject: Subject) -> None:
    done = subject.prefill(2000, limit=0.0)
    assert 0 < done["tokens"] < 2000
    assert subject.decode(50, limit=0.0)["tokens"] == 1
    assert subject.batch(8, 50, 4, limit=0.0)["tokens"] == 8


def test_pages_are_those_of_one_text_and_a_batch_gives_its_own_back(subject: Subject) -> None:
    subject.batch(8, 1, 64)
    assert subject.memory()["page_bytes"] == 0
    subject.prefill(65)
    assert subject.memory()["page_bytes"] == 2 * (page_bytes(NANO, GLOBAL) + page_bytes(NANO, LOCAL))
    subject.prefill(10)
    assert subject.memory()["page_bytes"] == page_bytes(NANO, GLOBAL) + page_bytes(NANO, LOCAL)


def test_weights_are_counted_as_stored(packed: Path) -> None:
    about = Subject(open_checkpoint(packed), threads=1).about()
    tensors = open_checkpoint(packed).tensors
    assert about["weight_bytes"] == sum(len(tensors[name].raw) for name in tensors)
    assert about["load_seconds"] > 0 and about["build"]


def test_peak_memory_is_this_process_own_and_stays_when_memory_is_given_back() -> None:
    held = np.ones(300 << 20, np.uint8)  # a child must not begin with this
    probe = (
        "import numpy; from gemmary.engine.host import peak_memory as peak\n"
        "first = peak(); numpy.ones(200 << 20, numpy.uint8); print(first, peak())"
    )
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True)
    first, after = map(int, done.stdout.split())
    assert 10 << 20 < first < len(held)
    assert 190 << 20 < after - first < 260 << 20


def test_bandwidth_is_that_of_memory() -> None:
    """Somewhere between a very old laptop and the largest server."""
    assert 1e9 < read_bandwidth() < 5e12
    assert free_memory() > 0
