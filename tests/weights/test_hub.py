"""Names of models, and the cache that Hugging Face's tools share, laid out by hand as they lay it out."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import constants

from gemmary.errors import ModelFileError
from gemmary.weights.hub import NotDownloadedError, Reference, bundled, choose, locate, parse

COMMIT = "0123456789" * 4
PLAIN = "google/gemma-3-4b-it"
QAT = f"{PLAIN}-qat-q4_0-gguf"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "hub"


def lay(cache: Path, repo: str, *names: str, commit: str = COMMIT) -> Path:
    """A repository in the cache: blobs, links to them, and the main branch."""
    home = cache / f"models--{repo.replace('/', '--')}"
    folder = home / "snapshots" / commit
    for place in (home / "blobs", home / "refs", folder):
        place.mkdir(parents=True, exist_ok=True)
    for name in names:
        (home / "blobs" / f"blob-of-{name}").write_text(name)
        (folder / name).symlink_to(Path("../../blobs") / f"blob-of-{name}")
    (home / "refs/main").write_text(commit)
    return folder


@pytest.mark.parametrize(
    ("text", "repo", "quant"),
    [
        ("4b", "google/gemma-3-4b-it", None),
        ("gemma3:12b", "google/gemma-3-12b-it", None),
        ("gemma-3-1b-pt", "google/gemma-3-1b-pt", None),
        ("gemma-3-270m-pt", "google/gemma-3-270m", None),
        ("Gemma-3-27B-it:BF16", "google/gemma-3-27b-it", "BF16"),
        ("org/some.name-x_1", "org/some.name-x_1", None),
        ("org/name:Q4_K_M", "org/name", "Q4_K_M"),
    ],
)
def test_names_of_models(text: str, repo: str, quant: str | None) -> None:
    assert parse(text) == Reference(repo, quant)


@pytest.mark.parametrize(
    "text", ["", "x.gguf", "a/b.gguf", "a/b/c", "./a/b", "../b", "/a/b", "~/b", "a/../b", "5b"]
)
def test_names_that_can_only_be_paths(text: str) -> None:
    assert parse(text) is None


@pytest.mark.parametrize("size", ["1b", "4b", "12b", "27b"])
@pytest.mark.parametrize("kind", ["it", "pt"])
def test_official_models_are_preferred_in_4_bits(size: str, kind: str) -> None:
    plain = Reference(f"google/gemma-3-{size}-{kind}")
    assert plain.preferred == Reference(f"google/gemma-3-{size}-{kind}-qat-q4_0-gguf")
    assert plain.preferred.preferred == plain.preferred
    assert Reference(plain.repo, "bf16").preferred == Reference(plain.repo, "bf16")


@pytest.mark.parametrize(
    "repo", ["google/gemma-3-270m-it", "someone/gemma-3-4b-it", "google/gemma-3-4b-it-x"]
)
def test_other_models_stay_what_they_are(repo: str) -> None:
    assert Reference(repo).preferred == Reference(repo)


@pytest.mark.parametrize(
    ("repo", "billions"),
    [(QAT, 4.0), ("google/gemma-3-27b-it-qat-q4_0-gguf", 18.08), (PLAIN, 8.6), ("google/gemma-3-1b-it", 2.0)],
)
def test_download_sizes_are_known_beforehand(repo: str, billions: float) -> None:
    assert Reference(repo).download_bytes == pytest.approx(billions * 1e9, rel=0.01)


def test_a_path_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").touch()
    assert locate("x.gguf") == Path("x.gguf")
    assert locate(tmp_path / "x.gguf") == tmp_path / "x.gguf"
    (tmp_path / "google/gemma-3-4b-it").mkdir(parents=True)
    assert locate(PLAIN) == Path(PLAIN), "a folder of that name comes first"


@pytest.mark.parametrize("source", ["nothing.gguf", "./no/such", "nothing", Path("org/name")])
def test_a_missing_path_is_said_to_be_missing(source: str | Path) -> None:
    with pytest.raises(ModelFileError, match="there is no such file or folder"):
        locate(source)


def test_an_id_that_was_never_pulled(cache: Path) -> None:
    with pytest.raises(
        NotDownloadedError, match=r"fetch it with `gemmary pull google/gemma-3-4b-it`"
    ) as caught:
        locate(PLAIN)
    assert caught.value.reference == Reference(PLAIN)


def test_an_official_id_finds_its_4_bit_file(cache: Path) -> None:
    lay(cache, PLAIN, "config.json", "model.safetensors")
    folder = lay(cache, QAT, "gemma-3-4b-it-q4_0.gguf", "mmproj-model-f16-4B.gguf")
    assert locate(PLAIN) == locate(QAT) == locate("4b") == folder / "gemma-3-4b-it-q4_0.gguf"


def test_16_bits_are_never_run_without_being_asked_for(cache: Path) -> None:
    folder = lay(cache, PLAIN, "config.json", "model.safetensors", "tokenizer.model")
    with pytest.raises(NotDownloadedError, match=f"gemmary pull {PLAIN}.*{PLAIN}:bf16"):
        locate(PLAIN)
    assert locate(f"{PLAIN}:bf16") == folder


def test_a_repository_with_many_files(cache: Path) -> None:
    repo = "ggml-org/gemma-3-4b-it-GGUF"
    names = ["g-Q4_K_M.gguf", "g-Q4_K_S.gguf", "g-Q8_0.gguf", "mmproj-model-f16.gguf"]
    folder = lay(cache, repo, *names)
    assert locate(repo) == folder / "g-Q4_K_M.gguf"
    assert locate(f"{repo}:q8_0") == folder / "g-Q8_0.gguf"
    assert locate(f"{repo}:Q4_K_S") == folder / "g-Q4_K_S.gguf"
    for absent in ("Q6_K", "Q4_K"):
        with pytest.raises(NotDownloadedError, match=f"gemmary pull {repo}:{absent}"):
            locate(f"{repo}:{absent}")


@pytest.mark.parametrize(
    ("halves", "chosen"),
    [
        ([], []),
        (["mmproj-model-f16.gguf"], ["mmproj-model-f16.gguf"]),
        (["mmproj-BF16.gguf", "mmproj-F16.gguf", "mmproj-F32.gguf"], ["mmproj-F16.gguf"]),
        (["g-mmproj-Q8_0.gguf", "g-mmproj-F32.gguf"], ["g-mmproj-Q8_0.gguf"]),
        (["mmproj.gguf"], ["mmproj.gguf"]),
        (["mmproj-a.gguf", "mmproj-b.gguf"], []),
        (["other/mmproj-F16.gguf"], []),
    ],
    ids=str,
)
def test_the_picture_half_comes_along(halves: list[str], chosen: list[str]) -> None:
    names = ["g-Q4_0.gguf", "g-Q8_0.gguf", *halves]
    assert choose(names, Reference("org/g")) == ["g-Q4_0.gguf", *chosen]
    assert choose(names, Reference("org/g", "q8_0")) == ["g-Q8_0.gguf", *chosen]
    assert (
        choose([*names, "config.json", "model.safetensors"], Reference("org/g", "bf16"))[0] == "config.json"
    )


def test_a_choice_that_is_not_clear(cache: Path) -> None:
    lay(cache, "org/x", "x-Q5_K_M.gguf", "x-Q6_K.gguf")
    with pytest.raises(
        ModelFileError, match=r"there are several: 'x-Q5_K_M.gguf', 'x-Q6_K.gguf'.*org/x:Q4_0"
    ):
        locate("org/x")


def test_a_link_whose_blob_is_gone_counts_as_missing(cache: Path) -> None:
    lay(cache, QAT, "gemma-3-4b-it-q4_0.gguf")
    (cache / f"models--{QAT.replace('/', '--')}/blobs/blob-of-gemma-3-4b-it-q4_0.gguf").unlink()
    with pytest.raises(NotDownloadedError, match="is not complete"):
        locate(QAT)


def test_shards_are_all_there_or_the_model_is_not(cache: Path) -> None:
    index = "model.safetensors.index.json"
    folder = lay(cache, "org/y", "config.json", "model-00001-of-00002.safetensors")
    (folder / index).write_text(
        '{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}'
    )
    with pytest.raises(NotDownloadedError, match="is not complete"):
        locate("org/y")
    (folder / "model-00002-of-00002.safetensors").touch()
    assert locate("org/y") == folder


@pytest.mark.parametrize("ref", ["../../../etc", "", "0" * 39, "\x00", "0" * 41])
def test_a_branch_that_points_nowhere(cache: Path, ref: str) -> None:
    lay(cache, "org/z", "z.gguf")
    (cache / "models--org--z/refs/main").write_text(ref)
    with pytest.raises(NotDownloadedError):
        locate("org/z")


def test_pickles_and_other_files_are_never_chosen() -> None:
    names = ["pytorch_model.bin", "consolidated.safetensors", "README.md", "config.json", "model.safetensors"]
    assert choose([*names, "tokenizer.json"], Reference("org/x")) == [
        "config.json",
        "tokenizer.json",
        "model.safetensors",
    ]
    assert choose(["config.json", "pytorch_model.bin"], Reference("org/x")) == []


def test_the_bundled_model_has_a_name() -> None:
    if not (Path(__file__).parents[2] / "gemmary/bundled/nano.gguf").exists():
        with pytest.raises(ModelFileError, match="the bundled model is not there"):
            bundled()
    else:
        assert locate("nano") == bundled()
