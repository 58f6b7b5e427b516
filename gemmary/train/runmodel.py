"""The models of a run: the one that learns, new or from files, and its teacher."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ..config import Config
from ..errors import GemmaryError
from ..inputs.sentencepiece_model import write_model
from ..inputs.tokenizer import Tokenizer
from ..model.modules import TextModule
from ..ops.trainable import Trainable
from ..weights.assemble import stored_text
from ..weights.checkpoint import Checkpoint, open_checkpoint
from ..weights.hub import locate
from ..weights.tokenizerfiles import chat_template, pieces_of, read_vocabulary
from .checkpoint import state_of
from .data.shards import vocabulary_digest
from .initial import initialise
from .loop import check_same
from .runplan import RunPlan
from .snapshot import averaged
from .tables import PlanError
from .task import recorded
from .teacher import OnlineTeacher


def device() -> str:
    """Where a run computes."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def device_memory() -> int | None:
    """Bytes of the CUDA device; None on a CPU."""
    return torch.cuda.get_device_properties(0).total_memory if device() == "cuda" else None


@dataclass(frozen=True)
class Source:
    """A model in files, opened; its vocabulary as a SentencePiece model, and its chat template."""

    checkpoint: Checkpoint
    vocabulary: bytes
    template: str | None


def open_source(plan: RunPlan, name: str, key: str) -> Source:
    """The model that the plan's `key` names: a path from the plan's folder, or an id. GemmaryError."""
    try:
        path = plan.at(name) if plan.at(name).exists() else locate(name)
        checkpoint = open_checkpoint(path)
        found = read_vocabulary(checkpoint)
    except GemmaryError as error:
        raise PlanError(f"{plan.path}: {key}: {error}") from error
    return Source(checkpoint, write_model(pieces_of(found)), chat_template(checkpoint))


def text_config(plan: RunPlan, origin: Source | None, vocabulary: int) -> Config:
    """The network of a run; a new one has as many rows in its table as the vocabulary has pieces."""
    if origin is not None:
        return replace(origin.checkpoint.config, vision=None)
    if plan.config is None:
        raise ValueError("a plan without sizes needs the model that it goes on from")
    return replace(plan.config, vocab=vocabulary)


def student(plan: RunPlan, origin: Source | None, config: Config) -> TextModule:
    """The model that learns, with the weights that it begins with, in main memory."""
    ops, scale = _ops(plan, config), embed_scale(config, exact_scale(plan))
    model = TextModule(config, ops, scale)
    if origin is None:
        initialise(model, plan.train.seed)
    else:
        _load(model, origin.checkpoint)
    return model


def trained(plan: RunPlan, config: Config, checkpoint: Path) -> TextModule:
    """The model with the averaged weights of a checkpoint of its training, in main memory.

    GemmaryError: they are those of another model.
    """
    check_same(checkpoint.parent, state_of(checkpoint)[1], {"model": recorded(config)})
    ops, scale = _ops(plan, config), embed_scale(config, exact_scale(plan))
    with torch.device("meta"):  # no second copy
        model = TextModule(config, ops, scale)
    model.load_state_dict(averaged(checkpoint), assign=True)
    return model


def exact_scale(plan: RunPlan) -> bool:
    """Whether nothing is written at the end that holds the embedding's scale in 16 bits."""
    return plan.save.safetensors == "f32" and plan.save.gguf == "none"


def embed_scale(config: Config, exact: bool) -> float:
    """What embeddings are multiplied by: as whoever loads the result will do it (docs: design, exactness)."""
    scale = config.width**0.5
    return scale if exact else float(torch.tensor(scale).bfloat16())


def teacher(plan: RunPlan, source: Source, config: Config) -> OnlineTeacher:
    """The teacher of a student with `config`. GemmaryError: it knows fewer ids."""
    checkpoint = source.checkpoint
    if checkpoint.config.vocab < config.vocab:
        raise GemmaryError(
            f"{checkpoint.path}: the teacher's table has {checkpoint.config.vocab:,} rows, the student's "
            f"{config.vocab:,}: take a teacher with the same vocabulary"
        )
    own = replace(checkpoint.config, vocab=config.vocab, vision=None)
    model = TextModule(own, _ops(plan, own), checkpoint.embed_scale)
    _load(model, checkpoint)
    if plan.teacher is None:
        raise ValueError("the plan names no teacher")
    return OnlineTeacher(model.to(device()), plan.teacher.how, low=plan.train.low)


def check_vocabulary(data: bytes, source: Source, where: Path) -> None:
    """PlanError: the teacher has other pieces than the data: ids would mean something else to it."""
    ours, theirs = (Tokenizer.from_model(content) for content in (data, source.vocabulary))
    if vocabulary_digest(ours) != vocabulary_digest(theirs):
        raise PlanError(
            f"{source.checkpoint.path}: the teacher has another vocabulary ({theirs.vocab:,} pieces) than "
            f"the data, {where} ({ours.vocab:,}): both need the same; leave data.vocabulary out, and the "
            "data gets the teacher's"
        )


def _ops(plan: RunPlan, config: Config) -> Trainable:
    return Trainable(plan.row, (None, config.window), device())


def _load(model: TextModule, checkpoint: Checkpoint) -> None:
    """The weights of a file; rows of the table beyond the module's are left out. GemmaryError: NaN."""
    arrays = {name: stored_text(checkpoint, name) for name in checkpoint.tensors}
    arrays["embed"] = arrays["embed"][: model.config.vocab]
    for name, values in arrays.items():
        if not np.isfinite(values).all():
            raise GemmaryError(f"{checkpoint.path}: tensor {name!r} holds NaN or infinity: take another file")
    model.load_arrays(arrays)
