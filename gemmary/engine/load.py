"""A source -> a model that answers."""

from __future__ import annotations

import os
from concurrent.futures import Future
from pathlib import Path
from typing import Literal

from ..errors import ModelFileError, PromptError, UnsupportedModelError
from ..inputs.tokenizer import Tokenizer
from ..model.text import Decoder
from ..model.vision import Encoder
from ..weights.checkpoint import Checkpoint, open_checkpoint
from ..weights.hub import bundled, locate
from ..weights.vocabulary import Vocabulary
from .drafter import Drafter, build_drafter
from .eyes import Eyes, feature_bytes
from .memory import (
    CACHES,
    Cache,
    Estimate,
    check_cache,
    check_context,
    choose_context,
    estimate_memory,
    machine_memory,
    number_bytes,
    pool_pages,
)
from .model import Model
from .runner import Runner
from .sampling import check_whole
from .thread import EngineThread

Device = Literal["auto", "cpu", "cuda", "torch"]
Halves = tuple[EngineThread, Future[Decoder], Future[Encoder] | None]


def load(
    source: str | Path | None = None,
    device: Device = "auto",
    mmproj: str | Path | None = None,
    adapter: str | Path | None = None,
    context: int | None = None,
    threads: int | None = None,
    dtype: Literal["float32"] | None = None,
    draft: str | Path | None = None,
    *,
    cache: Cache | None = None,
    streams: int | None = None,
    queue: int = 64,
    memory: int | None = None,
) -> Model:
    """Load a Gemma 3 model.

    source: None for the bundled one, a GGUF file, a folder with config.json and *.safetensors, or a Hugging
        Face id whose files `gemmary pull` has fetched.
    device: "cpu" (also "auto"), or "torch" for the slow float32 reference.
    context: tokens of prompt and answer together; None: as many as the model has and memory holds.
    memory: bytes that it may take; None: as many as the machine has.
    threads: None for all cores.
    dtype: "float32" expands the weights and leaves sqrt(width) unrounded; None: as the file stores them.
    draft: a smaller model with the same vocabulary, which guesses ahead; the answers stay the same.
    mmproj: the GGUF file with the picture half; None: the one beside a GGUF model, if there is one.
    cache: numbers of keys and values: "f16" (also None), "bf16", "f32", or "int8", which takes half the
        memory and changes answers a little. None with dtype "float32": "f32".
    streams: answers that are written together, each weight read once for all of them, without guessing
        ahead; `queue` more may wait. Weights that are not packed are copied, and the file may be cut short.
        None: answers take turns, step by step.
    adapter: for LoRA, which this version does not run.

    ModelFileError, UnsupportedModelError, MemoryBudgetError, PromptError name the fault and what to do.
    """
    _check_arguments(device, adapter, threads, dtype)
    check_cache(cache)
    if cache is not None and device == "torch":
        raise PromptError('the reference keeps float32: leave cache out, or use device="cpu"')
    if draft is not None and device == "torch":
        raise PromptError('the reference does not guess ahead: leave draft out, or use device="cpu"')
    if context is not None:
        check_whole("context", context, 1)
    if streams is not None:
        check_whole("streams", streams, 1)
        check_whole("queue", queue, 0)
    if memory is not None:
        check_whole("memory", memory, 1)
    checkpoint = open_checkpoint(_path(source), dtype == "float32", mmproj)
    config, there = checkpoint.config, machine_memory()
    there = there if memory is None else min(memory, there)
    expand = dtype is not None or device == "torch"
    weights = _expanded_bytes(checkpoint) if expand else _packed_bytes(checkpoint)
    kept = cache or ("f32" if expand else "f16")
    number = number_bytes(config, kept)
    tokens = choose_context(config, weights, context, there, number)
    needed = estimate_memory(config, weights, tokens, number=number)
    if device == "torch":
        thread, packing, seeing = _torch_halves(checkpoint)
    else:
        own = streams is not None  # who serves many outlives what happens to the file
        thread, packing, seeing = _cpu_halves(checkpoint, threads, expand, CACHES[kept], own)
    try:
        tokenizer = read_tokenizer(checkpoint)  # while the engine thread packs weights
        decoder = packing.result()
        capacity = pool_pages(config, tokens, there - weights - needed.scratch, number)
        runner = thread.run(lambda: Runner(decoder, config, tokens, capacity))
        if seeing is not None:
            runner.eyes = Eyes(seeing.result(), feature_bytes(config))
        if draft is not None:
            runner.drafter = _drafter(draft, tokenizer, thread, tokens, there - needed.total)
    except BaseException:
        thread.close()
        raise
    return Model(runner, tokenizer, thread, None if streams is None else (streams, queue))


def estimate(
    source: str | Path | None = None,
    context: int | None = None,
    batch: int = 1,
    *,
    cache: Cache | None = None,
) -> Estimate:
    """Bytes that a model will take, from its headers alone: weights, pages of `batch` texts, scratch.

    context: tokens a text (None: all that the model has). cache: as in `load`. Nothing is loaded.
    """
    check_cache(cache)
    check_whole("batch", batch, 1)
    if context is not None:
        check_whole("context", context, 1)
    checkpoint = open_checkpoint(_path(source))
    check_context(checkpoint.config, context)
    config = checkpoint.config
    number = number_bytes(config, cache or "f16")
    return estimate_memory(config, _packed_bytes(checkpoint), context or config.context, batch, number)


def read_tokenizer(checkpoint: Checkpoint) -> Tokenizer:
    """The tokenizer that comes with a checkpoint; ModelFileError when there is none, or it does not fit."""
    tokenizer = _tokenizer(checkpoint)
    rows = checkpoint.config.vocab
    if any(not tokenizer.is_control(token) for token in range(rows, tokenizer.vocab)):
        raise ModelFileError(
            checkpoint.path,
            f"has a tokenizer of {tokenizer.vocab:,} tokens and an embedding of {rows:,} rows: "
            "they are not of the same model",
        )
    return tokenizer


def _tokenizer(checkpoint: Checkpoint) -> Tokenizer:
    vocabulary = checkpoint.vocabulary
    if isinstance(vocabulary, Vocabulary):
        lists = vocabulary.tokens, vocabulary.scores, vocabulary.types
        return Tokenizer.from_vocabulary(*lists, checkpoint.path)
    if vocabulary.model is not None:
        return Tokenizer.from_model(vocabulary.model)
    if vocabulary.json is not None:
        return Tokenizer.from_json(vocabulary.json)
    fault = "has no tokenizer: put tokenizer.model or tokenizer.json beside the weights"
    raise ModelFileError(checkpoint.path, fault)


def _check_arguments(device: object, adapter: object, threads: object, dtype: object) -> None:
    if adapter is not None:
        raise UnsupportedModelError("this version runs models without adapters: leave adapter out")
    if dtype not in (None, "float32"):
        raise PromptError(f'dtype must be None or "float32", not {dtype!r}')
    if threads is not None:
        check_whole("threads", threads, 1)
    if device == "cuda":
        raise UnsupportedModelError('this version computes on the CPU: use device="cpu"')
    if device not in ("auto", "cpu", "torch"):
        raise PromptError(f'device must be "auto", "cpu" or "torch", not {device!r}')


def _packed_bytes(checkpoint: Checkpoint) -> int:
    """Bytes that the CPU engine holds; a 16-bit table stays in the file, and has a 6-bit plane beside it. A
    tower's weights become two bytes each, and a scale for 32.
    """
    config, vision = checkpoint.config, checkpoint.vision
    bits = checkpoint.tensors["embed"].format.name in ("F16", "BF16")
    plane = config.vocab * config.width * 27 // 32 if bits else 0
    return checkpoint.tensors.nbytes + plane + (0 if vision is None else vision.parameters * 17 // 8)


def _expanded_bytes(checkpoint: Checkpoint) -> int:
    """Bytes of all weights in float32."""
    vision = checkpoint.vision
    return 4 * (checkpoint.parameters + (0 if vision is None else vision.parameters))


def _path(source: str | Path | None) -> Path:
    if source is None:
        return bundled()
    if not isinstance(source, str | os.PathLike):
        raise PromptError(f"source must be a path or a name, not {type(source).__name__}")
    return locate(source)


def _cpu_halves(checkpoint: Checkpoint, threads: int | None, expand: bool, pages: str, own: bool) -> Halves:
    from ..ops.numba.machine import prepare
    from ..weights.assemble import packed_text, packed_tower

    thread = EngineThread(lambda: prepare(threads))
    packing: Future[Decoder] = thread.later(lambda: packed_text(checkpoint, expand, pages, own))
    seeing: Future[Encoder] | None = None
    if (vision := checkpoint.vision) is not None:
        seeing = thread.later(lambda: packed_tower(vision, "F32" if expand else "INT8"))
    return thread, packing, seeing


def _torch_halves(checkpoint: Checkpoint) -> Halves:
    try:
        from ..ops.reference import Reference
    except ImportError:
        raise UnsupportedModelError('device="torch" needs PyTorch: install it, or use device="cpu"') from None
    from ..weights.assemble import module_text, module_tower

    thread = EngineThread(lambda: None)
    packing: Future[Decoder] = thread.later(
        lambda: module_text(checkpoint, Reference()).requires_grad_(False)
    )
    seeing: Future[Encoder] | None = None
    if (vision := checkpoint.vision) is not None:
        seeing = thread.later(lambda: module_tower(vision, Reference()).requires_grad_(False))
    return thread, packing, seeing


def _drafter(
    source: str | Path, tokenizer: Tokenizer, thread: EngineThread, context: int, memory: int
) -> Drafter:
    checkpoint = open_checkpoint(_path(source))
    return build_drafter(checkpoint, (read_tokenizer(checkpoint), tokenizer), thread, context, memory)
