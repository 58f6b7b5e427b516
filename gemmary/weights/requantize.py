"""A model in other number formats: which tensor gets which, and writing it, as GGUF or as a folder.

One slice of one tensor is in memory at a time. The result appears whole or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import GemmaryError
from ..formats import FORMATS, Format
from .atomic import replacing_folder
from .checkpoint import Checkpoint, open_checkpoint
from .ggufwriter import Progress, Storable
from .names import is_norm
from .recoded import Recoded
from .save import write_folder, write_gguf
from .target import check_space, check_target, is_file
from .tensor import Tensor
from .tokenizerfiles import (
    IDS,
    TEMPLATE,
    chat_template,
    copy_tokenizer,
    read_vocabulary,
    special_ids,
    write_tokenizer,
)
from .vocabulary import TokenizerFiles, Vocabulary

Tell = Callable[[str], None]  # a line for the user

BODIES = ("q4_0", "int4", "q8_0", "f16", "bf16")
TABLES = ("q8_0", "q6_k", "f16", "bf16")
FLOATS = ("bf16", "f16", "f32")


@dataclass(frozen=True)
class Plan:
    """How a model's tensors will be stored.

    kept: matrices whose rows do not divide into blocks, and stay F16. twice: quantized matrices that are
    quantized again. rounded: matrices of which a float format keeps fewer digits than there were.
    """

    tensors: dict[str, Storable]
    kept: tuple[str, ...]
    twice: tuple[str, ...]
    rounded: tuple[str, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors.values())


def plan(tensors: Mapping[str, Tensor], body: str, table: str) -> Plan:
    """Matrices in the format `body`, the embedding in `table`; norms as they are.

    What is in its format already is copied, bit for bit.
    """
    targets = {name: table if name == "embed" else body for name in tensors if not is_norm(name)}
    stored: dict[str, Storable] = {name: tensors[name] for name in tensors}
    kept = []
    for name, target in targets.items():
        tensor, form, channels = tensors[name], _format(target), target == "int4"
        if tensor.shape[1] % form.block:
            kept.append(name)
            form, channels = FORMATS["F16"], False
        if tensor.format != form or channels:
            stored[name] = Recoded(tensor, form, channels)
    new = [tensor for tensor in stored.values() if isinstance(tensor, Recoded)]
    twice = [tensor.name for tensor in new if tensor.format.group and tensor.source.format.group]
    rounded = [tensor.name for tensor in new if not tensor.format.group and tensor.format.name != "F32"]
    return Plan(stored, tuple(kept), tuple(twice), tuple(rounded))


def quantize(
    source: Path,
    target: Path,
    body: str,
    table: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
    tell: Tell = lambda line: None,
) -> None:
    """Write the model `source` as the GGUF file `target`.

    body: one of BODIES. table: one of TABLES; None: Q8_0, or as the body if that is a float format.
    force: replace what is at `target`. tell: called with what a user should know.
    GemmaryError: it cannot be read, written or expressed; the message says which, and what to do.
    """
    if not is_file(target):
        raise GemmaryError(f"{target}: quantize writes GGUF files: give the result a name that ends in .gguf")
    check_target(source, target, force)
    checkpoint = open_checkpoint(source)
    planned = plan(checkpoint.tensors, body, table or ("q8_0" if _format(body).group else body))
    _tell_plan(planned, checkpoint, tell)
    _write_gguf(checkpoint, planned, target, progress)


def convert(
    source: Path,
    target: Path,
    to: str,
    force: bool = False,
    progress: Progress | None = None,
    tell: Tell = lambda line: None,
) -> None:
    """Write the model `source` in the float format `to`: as GGUF if `target` ends so, else as a folder.

    to: one of FLOATS. The rest as for `quantize`.
    """
    check_target(source, target, force)
    checkpoint = open_checkpoint(source)
    planned = plan(checkpoint.tensors, to, to)
    _tell_plan(planned, checkpoint, tell)
    if planned.rounded:
        tell(f"{len(planned.rounded)} of its matrices are rounded to {to}; --to f32 keeps every digit.")
    if is_file(target):
        _write_gguf(checkpoint, planned, target, progress)
    else:
        _write_folder(checkpoint, planned, target, progress)


def _format(target: str) -> Format:
    return FORMATS["Q4_0" if target == "int4" else target.upper()]


def _tell_plan(planned: Plan, checkpoint: Checkpoint, tell: Tell) -> None:
    if checkpoint.set_aside:
        tell(f"Its {len(checkpoint.set_aside):,} vision tensors are left out: the result reads text only.")
    if planned.twice:
        tell(
            f"{len(planned.twice)} of its matrices are quantized already, and quality is lost twice: "
            "quantize the original weights if you can."
        )
    if planned.kept:
        tell(f"F16 for {len(planned.kept)} of its matrices: their rows do not divide into blocks.")


def _write_gguf(checkpoint: Checkpoint, planned: Plan, target: Path, progress: Progress | None) -> None:
    vocabulary = read_vocabulary(checkpoint)
    check_space(planned.nbytes, target)
    template = chat_template(checkpoint)
    if isinstance(checkpoint.vocabulary, Vocabulary):
        metadata = dict(checkpoint.metadata)
    else:
        metadata = {"general.name": _name(checkpoint.path)}
    if template is not None:
        metadata[TEMPLATE] = template
    write_gguf(target, checkpoint.config, planned.tensors, vocabulary, metadata, progress)


def _write_folder(checkpoint: Checkpoint, planned: Plan, target: Path, progress: Progress | None) -> None:
    check_space(planned.nbytes, target)
    found = checkpoint.vocabulary
    if isinstance(found, TokenizerFiles):
        ids = {key: checkpoint.metadata[key] for key in IDS if key in checkpoint.metadata}
    else:
        ids = special_ids(found)
    with replacing_folder(target) as folder:
        if isinstance(found, TokenizerFiles):
            copy_tokenizer(checkpoint.path, folder)
        else:
            write_tokenizer(folder, found, chat_template(checkpoint))
        write_folder(folder, checkpoint.config, planned.tensors, ids, progress)


def _name(folder: Path) -> str:
    """A folder's name; that of the repository in the cache, where the folder is named after a commit."""
    folder = Path(os.path.abspath(folder))
    repository = folder.parents[1].name if folder.parent.name == "snapshots" else ""
    return repository.rpartition("--")[2] or folder.name
