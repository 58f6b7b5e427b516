"""What a run leaves: its model as a folder for transformers and as a GGUF file.

A folder in float32 multiplies embeddings by sqrt(width) as it is, 16-bit folders and GGUF files by that
number in bfloat16. A model is trained with the one that its files will use, so the two cannot be written of
one run where they differ.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..config import Config
from ..errors import GemmaryError
from ..formats import FORMATS
from ..inputs.sentencepiece_model import read_model
from ..model.modules import TextModule
from ..weights.atomic import replacing_folder
from ..weights.ggufwriter import Storable
from ..weights.requantize import plan as planned
from ..weights.save import write_folder, write_gguf
from ..weights.target import check_space
from ..weights.tensor import Tensor
from ..weights.tokenizerfiles import TEMPLATE, copy_tokenizer, special_ids, write_tokenizer
from ..weights.vocabulary import TokenizerFiles, Vocabulary
from .runfolder import RunFolder
from .runmodel import Source, embed_scale
from .runplan import Save

Tell = Callable[[str], None]


def check_save(save: Save, config: Config) -> None:
    """GemmaryError: the two files of the plan would not be the same model."""
    both = save.safetensors == "f32" and save.gguf != "none"
    if both and embed_scale(config, True) != embed_scale(config, False):
        raise GemmaryError(
            f"save: with a width of {config.width}, a folder in f32 and a GGUF file multiply embeddings by "
            f'different numbers: take safetensors = "bf16", or gguf = "none"'
        )


def export(
    model: TextModule, vocabulary: bytes, origin: Source | None, save: Save, folder: RunFolder, tell: Tell
) -> list[Path]:
    """Write what `save` wants; the paths. GemmaryError: no room, or it cannot be written.

    vocabulary: a SentencePiece model. origin: whose tokenizer files and chat template come along.
    """
    tensors = {name: _tensor(name, values) for name, values in model.arrays().items()}
    held = _vocabulary(vocabulary)
    written = []
    if save.gguf != "none":
        stored = planned(tensors, save.gguf, "q8_0" if FORMATS[_format(save.gguf)].group else save.gguf)
        if stored.kept:
            tell(f"F16 for {len(stored.kept)} matrices: their rows do not divide into blocks of {save.gguf}.")
        _write_gguf(folder, model.config, stored.tensors, held, origin)
        written.append(folder.gguf)
    if save.safetensors != "none":
        stored = planned(tensors, save.safetensors, save.safetensors)
        _write_folder(folder, model.config, stored.tensors, held, origin)
        written.append(folder.folder)
    return written


def _format(name: str) -> str:
    return "Q4_0" if name == "int4" else name.upper()


def _tensor(name: str, values: np.ndarray) -> Tensor:
    return Tensor.pack(name, values, FORMATS["F32"], gain_offset=1.0 if values.ndim == 1 else 0.0)


def _vocabulary(content: bytes) -> Vocabulary:
    whole = read_model(content, "the vocabulary")
    bos, eos, unk, pad = (whole.find(f"<{name}>") for name in ("bos", "eos", "unk", "pad"))
    if bos is None or eos is None:
        raise GemmaryError("the vocabulary has no <bos> or no <eos>: take one that has both")
    return Vocabulary(whole.pieces, whole.scores, np.array(whole.kinds, np.int32), bos, eos, unk, pad)


def _write_gguf(
    folder: RunFolder, config: Config, tensors: dict[str, Storable], held: Vocabulary, origin: Source | None
) -> None:
    check_space(sum(tensor.nbytes for tensor in tensors.values()), folder.gguf)
    metadata = {"general.name": folder.path.resolve().name}
    if origin is not None and origin.template is not None:
        metadata[TEMPLATE] = origin.template
    write_gguf(folder.gguf, config, tensors, held, metadata)


def _write_folder(
    folder: RunFolder, config: Config, tensors: dict[str, Storable], held: Vocabulary, origin: Source | None
) -> None:
    check_space(sum(tensor.nbytes for tensor in tensors.values()), folder.folder)
    with replacing_folder(folder.folder) as unfinished:
        if origin is not None and isinstance(origin.checkpoint.vocabulary, TokenizerFiles):
            copy_tokenizer(origin.checkpoint.path, unfinished)
        else:
            write_tokenizer(unfinished, held, None if origin is None else origin.template)
        write_folder(unfinished, config, tensors, special_ids(held))
