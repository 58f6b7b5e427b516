"""Downloads against a hub on this machine: whole, broken, resumed, refused."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants, snapshot_download

from gemmary.weights import download, hub, partial
from gemmary.weights.download import pull
from gemmary.weights.partial import DownloadError

from .hubserver import COMMIT, Hub, serving, sha256

PLAIN = "google/gemma-3-1b-it"
QAT = f"{PLAIN}-qat-q4_0-gguf"
SIZE = 5_000_000
GGUF = np.random.default_rng(0).bytes(SIZE)
SHARDED = {
    "config.json": b'{"model_type": "gemma3_text"}',
    "model.safetensors.index.json": b'{"weight_map": {"a": "model-00001-of-00002.safetensors", '
    b'"b": "model-00002-of-00002.safetensors"}}',
    "model-00001-of-00002.safetensors": b"first",
    "model-00002-of-00002.safetensors": b"second",
    "tokenizer.model": b"pieces",
    "tokenizer.json": b"{}",
    "pytorch_model.bin": b"a pickle",
    "README.md": b"# card",
}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with an official model in both forms, and an empty cache."""
    files = {"gemma-3-1b-it-q4_0.gguf": GGUF, "gemma-3-1b-it-f16.gguf": GGUF[:9], ".gitattributes": b"x"}
    world = Hub(repos={QAT: files, PLAIN: SHARDED})
    with serving(world):
        monkeypatch.setattr(constants, "ENDPOINT", world.url)
        template = world.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setattr(partial, "PAUSE", 0.001)
        yield world


def part() -> Path:
    return hub.storage(QAT) / "blobs" / f"{sha256(GGUF)}.incomplete"


def test_an_official_id_brings_the_4_bit_file_and_nothing_else(world: Hub) -> None:
    path = pull(PLAIN)
    assert path.read_bytes() == GGUF
    assert [p.name for p in path.parent.iterdir()] == ["gemma-3-1b-it-q4_0.gguf"]
    assert hub.locate(PLAIN) == path
    assert not any(PLAIN + "/resolve" in asked for _, asked, _ in world.requests)


def test_the_picture_half_comes_along(world: Hub) -> None:
    world.repos[QAT] |= {"mmproj-model-f16-1B.gguf": GGUF[:-1], "mmproj-model-q8_0-1B.gguf": GGUF[:9]}
    path = pull(PLAIN)
    assert path.read_bytes() == GGUF
    assert (path.parent / "mmproj-model-f16-1B.gguf").read_bytes() == GGUF[:-1]
    assert len(list(path.parent.iterdir())) == 2


def test_the_cache_is_huggingface_hubs_own(world: Hub) -> None:
    folder = pull(f"{PLAIN}:bf16")
    wanted = ["config.json", "*.safetensors", "*.index.json", "tokenizer.model"]
    assert snapshot_download(PLAIN, local_files_only=True, allow_patterns=wanted) == str(folder)
    missing = {"pytorch_model.bin", "README.md", "tokenizer.json"}
    assert {p.name for p in folder.iterdir()} == SHARDED.keys() - missing


def test_progress_counts_up_to_the_whole(world: Hub) -> None:
    told: list[tuple[int, int]] = []
    pull(QAT, lambda done, total: told.append((done, total)))
    assert told[-1] == (SIZE, SIZE)
    assert told == sorted(told) and len(told) > 10


def test_a_broken_connection_goes_on_where_it_broke(world: Hub) -> None:
    world.breaks = [1_000_000, 1_500_000]
    assert pull(QAT).read_bytes() == GGUF
    assert world.starts() == ["bytes=0-", "bytes=1000000-", "bytes=2500000-"]


def test_a_second_program_goes_on_where_the_first_was_stopped(world: Hub) -> None:
    def stop(done: int, total: int) -> None:
        if done > 2_000_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(QAT, stop)
    have = part().stat().st_size
    assert have > 2_000_000
    with pytest.raises(hub.NotDownloadedError):
        hub.locate(QAT)
    world.requests.clear()
    assert pull(QAT).read_bytes() == GGUF
    assert world.starts() == [f"bytes={have}-"]
    assert not part().exists()


def test_a_server_without_ranges_starts_again(world: Hub) -> None:
    world.ranges, world.breaks = False, [1_000_000]
    assert pull(QAT).read_bytes() == GGUF


def test_a_hub_that_keeps_breaking_ends_the_download_and_keeps_the_part(world: Hub) -> None:
    world.breaks = [1_000_000, *[0] * 20]
    with pytest.raises(DownloadError, match=r"what has arrived stays, `gemmary pull .*` goes on"):
        pull(QAT)
    assert part().stat().st_size == 1_000_000
    assert len(world.starts()) == 1 + 1 + partial.RETRIES


def test_damage_is_found_and_thrown_away(world: Hub) -> None:
    world.damage = True
    with pytest.raises(DownloadError, match="arrived damaged; pull it again"):
        pull(QAT)
    assert not part().exists()
    world.damage = False
    assert pull(QAT).read_bytes() == GGUF


def test_nothing_is_downloaded_twice(world: Hub) -> None:
    pull(QAT)
    world.requests.clear()
    pull(QAT)
    assert world.starts() == []


def test_a_licence_is_explained_step_by_step(world: Hub) -> None:
    world.gated = {QAT}
    with pytest.raises(DownloadError) as caught:
        pull(PLAIN)
    for step in (f"1. open {world.url}/{QAT}, sign in", "settings/tokens", "hf auth login", "gemmary pull"):
        assert step in str(caught.value)


def test_with_a_token_only_the_licence_is_left_to_do(world: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    world.gated = {QAT}
    monkeypatch.setenv("HF_TOKEN", "hf_of_someone")
    with pytest.raises(DownloadError, match="licence has to be accepted") as caught:
        pull(PLAIN)
    assert "token" not in str(caught.value)


def test_a_token_opens_the_gate_and_stays_with_the_hub(world: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    world.gated, world.tokens = {QAT}, {"hf_good"}
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    assert pull(PLAIN).read_bytes() == GGUF
    stored = [headers for _, path, headers in world.requests if path.startswith("/store/")]
    assert stored and not any("authorization" in headers for headers in stored)


@pytest.mark.parametrize("name", ["org/unknown", "google/gemma-3-27b-it"])
def test_an_unknown_model_is_said_to_be_unknown(world: Hub, name: str) -> None:
    with pytest.raises(DownloadError, match="the hub has no such model, or it is private"):
        pull(name)


def test_a_path_is_not_pulled(world: Hub) -> None:
    with pytest.raises(DownloadError, match="is not a model of the hub"):
        pull("./model.gguf")


def test_a_repository_of_something_else(world: Hub) -> None:
    world.repos["org/pickles"] = {"pytorch_model.bin": b"x", "config.json": b"{}"}
    with pytest.raises(DownloadError, match="has no GGUF file and no safetensors"):
        pull("org/pickles")


def test_offline_is_obeyed(world: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pull(PLAIN)
    world.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert pull(PLAIN) == path
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE forbids the network"):
        pull("google/gemma-3-12b-it")
    assert world.requests == []


def test_no_hub_at_all(world: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DownloadError, match="no connection to the hub"):
        pull(PLAIN)


def test_a_full_disk_is_seen_before_the_download(world: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")._replace(free=SIZE - 1)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DownloadError, match="make room there, or set HF_HOME"):
        pull(PLAIN)
    assert world.starts() == []


def test_two_programs_do_not_write_into_one_file(world: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from filelock import FileLock

    monkeypatch.setattr(partial, "LOCK_SECONDS", 0.05)
    lock = hub.cache() / ".locks" / hub.storage(QAT).name / f"{sha256(GGUF)}.lock"
    lock.parent.mkdir(parents=True)
    with FileLock(lock), pytest.raises(DownloadError, match="another program is downloading it"):
        pull(QAT)
    assert pull(QAT).read_bytes() == GGUF


def test_main_points_to_the_commit_only_when_all_is_there(world: Hub) -> None:
    world.breaks = [0] * 20
    with pytest.raises(DownloadError):
        pull(QAT)
    assert hub.snapshot(QAT) is None
    world.breaks = []
    pull(QAT)
    assert (hub.storage(QAT) / "refs/main").read_text() == COMMIT
