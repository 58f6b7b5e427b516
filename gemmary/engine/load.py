"""A source -> a model that answers."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Literal

from ..errors import ModelFileError, PromptError, UnsupportedModelError
from ..inputs.tokenizer import Tokenizer
from ..model.text import Decoder
from ..weights.checkpoint import Checkpoint, open_checkpoint
from ..weights.hub import locate
from ..weights.vocabulary import Vocabulary
from .memory import Estimate, choose_context, estimate_memory, machine_memory
from .model import Model
from .thread import EngineThread

Device = Literal["auto", "cpu", "cuda", "torch"]
BUNDLED = "nano.gguf"


def load(
    source: str | Path | None = None,
    device: Device = "auto",
    mmproj: str | Path | None = None,
    adapter: str | Path | None = None,
    context: int | None = None,
    threads: int | None = None,
    dtype: Literal["float32"] | None = None,
) -> Model:
    """Load a Gemma 3 model.

    source: None for the bundled one, a GGUF file, a folder with config.json and *.safetensors, or a Hugging Face id
    whose files are in the local cache or can be downloaded. device: "cpu" (also "auto"), or "torch" for the slow
    float32 reference. context: tokens of prompt and answer together (None: as many as the model has and memory
    holds). threads: None for all cores. dtype "float32" expands the weights and leaves sqrt(width) unrounded.

    ModelFileError, UnsupportedModelError, MemoryBudgetError, PromptError name the fault and what to do.
    """
    if mmproj is not None or adapter is not None:
        raise UnsupportedModelError("this version runs text models without adapters: leave mmproj and adapter out")
    if dtype not in (None, "float32"):
        raise PromptError(f'dtype must be None or "float32", not {dtype!r}')
    for name, value in (("context", context), ("threads", threads)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise PromptError(f"{name} must be a whole number above 0, not {value!r}")
    checkpoint = open_checkpoint(_path(source), exact_scale=dtype == "float32")
    weights = _packed_bytes(checkpoint) if dtype is None else 4 * checkpoint.parameters
    tokens = choose_context(checkpoint.config, weights, context, machine_memory())
    tokenizer = read_tokenizer(checkpoint)
    thread, decoder = _decoder(checkpoint, device, threads, dtype is not None)
    return Model(decoder, checkpoint.config, tokenizer, tokens, thread)


def estimate(source: str | Path | None = None, context: int | None = None, batch: int = 1) -> Estimate:
    """Bytes that a model will take, from its headers alone: weights, pages of `batch` texts, scratch."""
    checkpoint = open_checkpoint(_path(source))
    tokens = checkpoint.config.context if context is None else context
    return estimate_memory(checkpoint.config, _packed_bytes(checkpoint), tokens, batch)


def read_tokenizer(checkpoint: Checkpoint) -> Tokenizer:
    """The tokenizer that comes with a checkpoint; ModelFileError when a folder has none."""
    vocabulary = checkpoint.vocabulary
    if isinstance(vocabulary, Vocabulary):
        return Tokenizer.from_vocabulary(vocabulary.tokens, vocabulary.scores, vocabulary.types, checkpoint.path)
    if vocabulary.model is not None:
        return Tokenizer.from_model(vocabulary.model)
    if vocabulary.json is not None:
        return Tokenizer.from_json(vocabulary.json)
    raise ModelFileError(checkpoint.path, "has no tokenizer: put tokenizer.model or tokenizer.json beside the weights")


def _packed_bytes(checkpoint: Checkpoint) -> int:
    return sum(len(tensor.raw) for tensor in checkpoint.tensors.values())


def _path(source: str | Path | None) -> Path:
    if source is None:
        return Path(str(resources.files("gemmary") / "bundled" / BUNDLED))
    return locate(source)


def _decoder(
    checkpoint: Checkpoint, device: Device, threads: int | None, expand: bool
) -> tuple[EngineThread, Decoder]:
    if device in ("auto", "cpu"):
        return _cpu_decoder(checkpoint, threads, expand)
    if device == "torch":
        return _torch_decoder(checkpoint)
    if device == "cuda":
        raise UnsupportedModelError('this version computes on the CPU: use device="cpu"')
    raise PromptError(f'device must be "auto", "cpu" or "torch", not {device!r}')


def _cpu_decoder(checkpoint: Checkpoint, threads: int | None, expand: bool) -> tuple[EngineThread, Decoder]:
    from ..ops.numba.machine import prepare
    from ..weights.assemble import packed_text

    return EngineThread(lambda: prepare(threads)), packed_text(checkpoint, expand)


def _torch_decoder(checkpoint: Checkpoint) -> tuple[EngineThread, Decoder]:
    try:
        from ..ops.reference import Reference
    except ImportError:
        raise UnsupportedModelError('device="torch" needs PyTorch: install it, or use device="cpu"') from None
    from ..weights.assemble import module_text

    return EngineThread(lambda: None), module_text(checkpoint, Reference()).requires_grad_(False)
