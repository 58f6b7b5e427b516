"""Hugging Face ids -> files of the cache that every tool on the machine shares.

    google/gemma-3-4b-it            a repository; of an official one, Google's own 4-bit file
    google/gemma-3-4b-it:bf16       the same in 16 bits
    someone/gemma-3-4b-GGUF:Q8_0    one file of a repository with many
    gemma-3-4b-it, gemma3:4b, 4b    short names of the official ones
    nano                            the small model that comes with Gemmary

Looking a model up reads the cache only; download.py goes to the network.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from ..config import SIZES
from ..errors import ModelFileError
from .fields import shown
from .strictjson import read_object

INDEX = "model.safetensors.index.json"
INDEX_BYTES = 16 << 20
BUNDLED = "nano"
# A repository with several GGUF files, and none named: 4 bits first, as llama.cpp chooses too.
PREFERRED = ("q4_0", "q4_k_m", "q8_0")
MMPROJ = ("f16", "bf16", "q8_0", "f32")  # the same for the file with the picture half

_ID = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*?)(?::([\w.-]+))?")
_SHORT = re.compile(r"(?:gemma-?3[:-])?(270m|1b|4b|12b|27b)(-it|-pt)?(?::([\w.-]+))?", re.IGNORECASE)
_OFFICIAL = re.compile(r"google/gemma-3-(1b|4b|12b|27b)-(it|pt)")
_QAT = re.compile(r"google/gemma-3-(1b|4b|12b|27b)-(it|pt)-qat-q4_0-gguf")
_SPLIT = re.compile(r"-\d{5}-of-\d{5}\.gguf$")
# Bytes of the official 4-bit files (as their pages on Hugging Face say).
_QAT_BYTES = {"1b": 997_000_000, "4b": 3_149_000_000, "12b": 8_068_000_000, "27b": 17_223_000_000}


class NotDownloadedError(ModelFileError):
    """The id is fine, but its files are not on this machine. `reference` is what to pull."""

    def __init__(self, reference: Reference, fault: str) -> None:
        super().__init__(reference, fault)
        self.reference = reference


@dataclass(frozen=True)
class Reference:
    """A model on the hub: a repository, and which of its number formats ("q4_0", "bf16"; None: not said)."""

    repo: str
    quant: str | None = None

    def __str__(self) -> str:
        return self.repo if self.quant is None else f"{self.repo}:{self.quant}"

    @property
    def preferred(self) -> Reference:
        """What a CPU should run: for an official 16-bit repository, Google's 4-bit file of the same model."""
        official = _OFFICIAL.fullmatch(self.repo)
        if official and (self.quant is None or self.quant.lower() == "q4_0"):
            return Reference(f"{self.repo}-qat-q4_0-gguf")
        return self

    @property
    def size(self) -> str | None:
        """ "270m", ..., "27b" for an official repository, else None."""
        found = re.match(r"google/gemma-3-(270m|1b|4b|12b|27b)\b", self.repo)
        return found[1] if found else None

    @property
    def url(self) -> str:
        """Its page on the hub."""
        from huggingface_hub import constants

        return f"{constants.ENDPOINT}/{self.repo}"

    @property
    def download_bytes(self) -> int | None:
        """About how much will be downloaded; None where only the hub knows."""
        if self.size is None:
            return None
        config = SIZES[self.size]
        if _QAT.fullmatch(self.repo):
            return _QAT_BYTES[self.size] + 2 * config.vision_parameters
        return 2 * config.parameters


def parse(text: str) -> Reference | None:
    """The hub model that `text` names, or None when it can only be a path."""
    if text.endswith((".gguf", ".safetensors", ".json")):
        return None
    if short := _SHORT.fullmatch(text):
        size, kind = short[1].lower(), (short[2] or "-it").lower()
        plain = size == "270m" and kind == "-pt"  # the one base model without a suffix
        return Reference(f"google/gemma-3-{size}{'' if plain else kind}", short[3])
    found = _ID.fullmatch(text)
    return Reference(found[1], found[2]) if found and ".." not in text and "--" not in text else None


def locate(source: str | Path) -> Path:
    """The GGUF file or the folder that `source` names: a path, or the id of a model in the cache.

    NotDownloadedError: an id that has to be pulled first. ModelFileError: a path that does not exist.
    Nothing is downloaded.
    """
    path = Path(source).expanduser()
    if path.exists():
        return path
    if source == BUNDLED:
        return bundled()
    reference = parse(str(source)) if isinstance(source, str) else None
    if reference is None:
        name = "" if path.suffix or path.name != str(source) else ", nor a model of that name, such as 4b"
        raise ModelFileError(path, f"there is no such file or folder{name}")
    return cached(reference)


def bundled() -> Path:
    """The model that is part of Gemmary; ModelFileError in an installation without it."""
    path = Path(str(resources.files("gemmary") / "bundled" / f"{BUNDLED}.gguf"))
    if not path.is_file():
        raise ModelFileError(path, "the bundled model is not there; install Gemmary again, or name a model")
    return path


def cached(reference: Reference) -> Path:
    """The cached file or folder of a model; NotDownloadedError when it is not whole in the cache."""
    wanted = reference.preferred
    folder = snapshot(wanted.repo)
    files = choose(names_in(folder), wanted) if folder else []
    if folder and files and _whole(folder, files):
        return folder / files[0] if files[0].endswith(".gguf") else folder
    if wanted != reference and (other := snapshot(reference.repo)) and any(other.glob("*.safetensors")):
        raise NotDownloadedError(
            reference,
            f"only its 16-bit weights are on this machine, slow on a CPU. Fetch the 4-bit file with "
            f"`gemmary pull {reference}`, or name the big ones: {reference.repo}:bf16",
        )
    state = "is not complete on this machine" if folder else "is neither a path nor a model on this machine"
    raise NotDownloadedError(reference, f"{state}; fetch it with `gemmary pull {reference}`")


def cache() -> Path:
    """The folder that Hugging Face's tools share."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def storage(repo: str) -> Path:
    """A repository's folder in the cache."""
    return cache() / f"models--{repo.replace('/', '--')}"


def snapshot(repo: str) -> Path | None:
    """The cached files of a repository's main branch; None when there are none."""
    home = storage(repo)
    try:
        commit = (home / "refs/main").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    folder = home / "snapshots" / commit
    return folder if re.fullmatch(r"[0-9a-f]{40}", commit) and folder.is_dir() else None


def choose(names: Iterable[str], reference: Reference) -> list[str]:
    """Of a repository's files, those that the model needs: config, weights and tokenizer; or one GGUF file,
    and behind it the one with its picture half, if there is one.

    Empty when there are none. ModelFileError when the choice is not clear.
    """
    names = sorted(names)
    ggufs = [name for name in names if is_model_gguf(name)]
    quant = (reference.quant or "").lower()
    folder = folder_files(names)
    if folder and (quant in ("bf16", "f16", "f32") or not (quant or ggufs)):
        return folder
    for wanted in [quant] if quant else PREFERRED:
        if found := [name for name in ggufs if _has(name, wanted)]:
            return _with_mmproj(_one(found, reference), names)
    return [] if quant else _with_mmproj(_one(ggufs, reference), names)


def _with_mmproj(model: list[str], names: Sequence[str]) -> list[str]:
    """`model`, and from the same folder the picture half in the number format that MMPROJ prefers."""
    folders = {name.rpartition("/")[0] for name in model}
    found = [name for name in names if is_mmproj(name) and name.rpartition("/")[0] in folders]
    for wanted in MMPROJ:
        if len(fitting := [name for name in found if _has(name, wanted)]) == 1:
            return model + fitting
    return model + found if len(found) == 1 else model


def _one(names: Sequence[str], reference: Reference) -> list[str]:
    if len(names) > 1:
        raise ModelFileError(
            reference,
            f"there are several: {', '.join(map(shown, names[:12]))}. "
            f"Name one by its number format, as in {reference.repo}:Q4_0",
        )
    return list(names)


def _has(name: str, quant: str) -> bool:
    """Whether a file name has this number format, as a word of its own (q4_k is not in q4_k_m)."""
    return re.search(rf"(?<![a-z0-9]){re.escape(quant)}(?![a-z0-9_])", name.lower()) is not None


def is_model_gguf(name: str) -> bool:
    """Whether a GGUF file's name is that of a whole language model: no vision part, no split."""
    return name.endswith(".gguf") and not is_mmproj(name) and not _SPLIT.search(name)


def is_mmproj(name: str) -> bool:
    """Whether a file's name is that of a picture half (mmproj.py)."""
    return name.lower().endswith(".gguf") and "mmproj" in name.lower().rpartition("/")[2]


def folder_files(names: Sequence[str]) -> list[str]:
    """What a safetensors model consists of; pickles are never among it. Empty without weights."""
    weights = [n for n in names if re.fullmatch(r"model(-\d{5}-of-\d{5})?\.safetensors", n)]
    tokenizer = [n for n in ("tokenizer.model", "tokenizer.json") if n in names][:1]
    rest = [n for n in ("config.json", INDEX) if n in names]
    return [*rest, *tokenizer, *weights] if weights and "config.json" in names else []


def names_in(folder: Path) -> list[str]:
    """Names of the files that are there; a link to a blob that was deleted is not."""
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def _whole(folder: Path, files: Sequence[str]) -> bool:
    """Whether every part that the index of a safetensors model names is there."""
    if INDEX not in files:
        return True
    parts = read_object(folder / INDEX, INDEX_BYTES).get("weight_map")
    return isinstance(parts, dict) and set(parts.values()) <= set(files)
