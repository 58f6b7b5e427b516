"""What run.json says of a run is true, and it is read back whatever became of it."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from gemmary.train import about, flops
from gemmary.train.about import About
from gemmary.train.packing import Document, pack_rows
from tests.train import toys

IDENTITY = {"data": "abc", "plan": {"rows": 4}}


def of(model: torch.nn.Module, **plan: object) -> About:
    documents = [Document([1] * n, [1.0] * n) for n in (20, 7, 32)]
    return about.about(model, toys.plan(5, **plan), IDENTITY, [pack_rows(documents, toys.ROW)])


def test_it_tells_plan_network_data_and_machine() -> None:
    found = of(toys.model())
    assert found.plan["learning"]["peak"] == 1e-2 and found.data == {"data": "abc"}
    assert found.config is not None and found.config["width"] == toys.TOY.width
    assert found.parameters == toys.TOY.parameters
    assert found.versions["torch"] == torch.__version__ and found.versions["python"] in sys.version
    assert found.device is not None and "cores" in found.device


def test_a_token_costs_what_the_documents_cost_filling_not_counted() -> None:
    found = of(toys.model())
    assert found.flops == pytest.approx(flops.text(toys.TOY, (20, 7, 32)) / (20 + 7 + 32))


def test_what_nobody_counted_is_not_known() -> None:
    module = torch.nn.Linear(3, 2)
    assert about.about(module, toys.plan(5), {}, [object()]).flops is None
    assert of(toys.model()).peak is None


def test_a_peak_in_bfloat16_is_for_runs_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flops, "peak", lambda device: 1e12)
    assert (of(toys.model(), low=True).peak, of(toys.model(), low=False).peak) == (1e12, None)


def test_written_and_read(tmp_path: Path) -> None:
    found = of(toys.model())
    found.write(tmp_path)
    assert asdict(about.read(tmp_path)) == json.loads(json.dumps(asdict(found)))


def test_a_run_of_older_days_has_what_its_checkpoint_knows(tmp_path: Path) -> None:
    for step, rows in ((4, 1), (8, 2)):
        folder = tmp_path / f"step-{step:08d}"
        folder.mkdir()
        (folder / "state.json").write_text(json.dumps({"plan": {"rows": rows}, "data": "abc"}))
    assert about.read(tmp_path) == About(plan={"rows": 2}, data={"data": "abc"})


@pytest.mark.parametrize("text", ["", "{", "[]", '{"plan": [], "versions": 3, "data": null}', "\0" * 9])
def test_a_broken_file_says_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    found = about.read(tmp_path)
    assert (found.plan, found.config, found.versions, found.flops) == ({}, None, {}, None)
