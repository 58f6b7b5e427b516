"""The tokenizer of a Hugging Face folder <-> the vocabulary of a GGUF file, with the chat template.

A folder keeps a SentencePiece model (tokenizer.model), or merges (tokenizer.json), mostly both; GGUF keeps
what the SentencePiece model says. Both ways a text keeps its ids.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..errors import ModelFileError
from ..inputs import vocabulary as pieces
from ..inputs.merges import scores_of
from ..inputs.sentencepiece_model import read_model, write_model
from ..inputs.tokenizer import MAX_FILE
from ..inputs.tokenizer_json import read_json, write_json
from .atomic import replacing
from .checkpoint import Checkpoint
from .mapped import read_small
from .safetensors import inside
from .vocabulary import TokenizerFiles, Vocabulary

TEMPLATE = "tokenizer.chat_template"  # the key in a GGUF file
TEMPLATES = ("chat_template.jinja", "chat_template.json", "tokenizer_config.json")  # where folders keep it
TEMPLATE_BYTES = 4 << 20  # Gemma 3's tokenizer_config.json has 1.2 million
# What belongs to the tokenizer in a folder; all of it travels from folder to folder.
FILES = (
    "tokenizer.model", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "chat_template.jinja", "chat_template.json", "generation_config.json",
)  # fmt: skip
IDS = ("bos_token_id", "eos_token_id", "pad_token_id")  # in config.json


def read_vocabulary(checkpoint: Checkpoint) -> Vocabulary:
    """The vocabulary as GGUF has it, without ids that are no text in any case (beyond the table's rows).

    ModelFileError: there is no tokenizer, or it does not fit the table, or GGUF cannot express it.
    """
    found, path = checkpoint.vocabulary, checkpoint.path
    if isinstance(found, Vocabulary):
        return found
    whole = _pieces(found, path)
    rows = min(len(whole), checkpoint.config.vocab, pieces.TABLE)
    if set(range(rows, len(whole))) - whole.controls():
        raise ModelFileError(
            path, f"has a tokenizer of {len(whole):,} tokens, but an embedding of {rows:,} rows"
        )
    ids = {name: whole.find(f"<{name}>") for name in ("bos", "eos", "unk", "pad")}
    if ids["bos"] is None or ids["eos"] is None:
        raise ModelFileError(path, "has a tokenizer without <bos> or <eos>: it is not Gemma's")
    return Vocabulary(
        tokens=whole.pieces[:rows],
        scores=whole.scores[:rows],
        types=np.array(whole.kinds[:rows], np.int32),
        bos=ids["bos"],
        eos=ids["eos"],
        unknown=ids["unk"],
        padding=ids["pad"],
    )


def _pieces(files: TokenizerFiles, path: Path) -> pieces.Vocabulary:
    if files.model is not None:
        return read_model(read_small(files.model, MAX_FILE), files.model)
    if files.json is None:
        raise ModelFileError(
            path, "has no tokenizer: put tokenizer.model or tokenizer.json beside the weights"
        )
    parsed = read_json(read_small(files.json, MAX_FILE), files.json)
    listed = parsed.vocabulary
    return pieces.Vocabulary(files.json, listed.pieces, listed.kinds, scores_of(listed, parsed.merges))


def chat_template(checkpoint: Checkpoint) -> str | None:
    """The chat template that comes with a model, as it is written there; None where there is none."""
    if isinstance(checkpoint.vocabulary, Vocabulary):
        found = checkpoint.metadata.get(TEMPLATE)
        return found if isinstance(found, str) else None
    folder = checkpoint.path
    for name in TEMPLATES:
        if (folder / name).exists():
            content = _text(inside(folder, name))
            found = content if name.endswith(".jinja") else _parsed(content, folder / name)
            if isinstance(found, str):
                return found
    return None


def _text(path: Path) -> str:
    try:
        return read_small(path, TEMPLATE_BYTES).decode("utf-8")
    except UnicodeDecodeError:
        raise ModelFileError(path, "is not UTF-8 text") from None


def _parsed(content: str, path: Path) -> object:
    """`chat_template` in a JSON file. Not the strict reader: transformers writes numbers that it refuses."""
    try:
        values = json.loads(content)
    except (ValueError, RecursionError):
        raise ModelFileError(path, "is not JSON") from None
    return values.get("chat_template") if isinstance(values, dict) else None


def special_ids(vocabulary: Vocabulary) -> dict[str, object]:
    """What config.json says of the vocabulary."""
    return dict(zip(IDS, (vocabulary.bos, list(vocabulary.stops), vocabulary.padding), strict=True))


def pieces_of(vocabulary: Vocabulary) -> pieces.Vocabulary:
    """What tokenizer.model says of a vocabulary."""
    return pieces.Vocabulary("the vocabulary", vocabulary.tokens, vocabulary.types, vocabulary.scores)


def write_tokenizer(folder: Path, vocabulary: Vocabulary, template: str | None) -> None:
    """tokenizer.model, tokenizer.json and the settings that transformers reads beside them."""
    whole = pieces_of(vocabulary)
    named = {
        "bos_token": vocabulary.bos, "eos_token": vocabulary.eos, "unk_token": vocabulary.unknown,
        "pad_token": vocabulary.padding, "mask_token": whole.find("<mask>"),
    }  # fmt: skip
    settings: dict[str, object] = {
        "tokenizer_class": "GemmaTokenizer", "add_bos_token": vocabulary.add_bos,
        "add_eos_token": vocabulary.add_eos, "clean_up_tokenization_spaces": False,
        "spaces_between_special_tokens": False,
        **{key: None if token is None else vocabulary.tokens[token] for key, token in named.items()},
    }  # fmt: skip
    if template is not None:
        settings["chat_template"] = template
    contents = {
        "tokenizer.model": write_model(whole),
        "tokenizer.json": write_json(whole),
        "tokenizer_config.json": _json(settings),
        "generation_config.json": _json(special_ids(vocabulary)),
    }
    for name, content in contents.items():
        _write(folder / name, content)


def copy_tokenizer(source: Path, folder: Path) -> None:
    """The tokenizer's files of one folder in another, as they are."""
    for name in FILES:
        if (source / name).exists():
            _write(folder / name, read_small(inside(source, name), MAX_FILE))


def _json(values: Mapping[str, object]) -> bytes:
    return json.dumps(values, indent=2, ensure_ascii=False).encode() + b"\n"


def _write(path: Path, content: bytes) -> None:
    with replacing(path) as file:
        file.write(content)
