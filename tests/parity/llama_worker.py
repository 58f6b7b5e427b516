"""llama.cpp at work, in an interpreter that has `llama_cpp`: quantises files, writes logits and ids.

    python llama_worker.py JOBS.json

JOBS is a list of ["quantize", source, target, ftype name], ["logits", gguf, ids.npy, logits.npy],
["tokenize", gguf, texts.json, ids.json] and ["encode", gguf, mmproj, pictures.npy, features.npy]. Keys and
values are kept in F32, flash attention is off, one batch holds the text: nothing is rounded but weights and
what multiplies them. This file imports nothing of the house: it runs elsewhere.
"""

from __future__ import annotations

import ctypes
import json
import sys
from typing import Any

import llama_cpp.llama_cpp as api
import numpy as np

BATCH = 512  # tokens a text may have


def quantize(source: str, target: str, ftype: str) -> None:
    """Write `target` with llama.cpp's own mixture of formats, named as in LLAMA_FTYPE_MOSTLY_*."""
    params = api.llama_model_quantize_default_params()
    params.ftype = getattr(api, f"LLAMA_FTYPE_MOSTLY_{ftype}")
    params.nthread = 2
    if api.llama_model_quantize(source.encode(), target.encode(), params):
        raise RuntimeError(f"llama.cpp could not quantize {source}")


def logits(path: str, ids_path: str, target: str) -> None:
    """Save float32 [T, V], the logits of every token of the text."""
    model = api.llama_model_load_from_file(path.encode(), _model_params())
    if not model:
        raise RuntimeError(f"llama.cpp refuses {path}")
    context = api.llama_init_from_model(model, _context_params())
    ids = np.load(ids_path)
    batch = api.llama_batch_init(BATCH, 0, 1)
    batch.n_tokens = len(ids)
    for i, token in enumerate(ids):
        batch.token[i], batch.pos[i], batch.logits[i] = int(token), i, 1
        batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
    if api.llama_decode(context, batch):
        raise RuntimeError(f"llama.cpp cannot run {path}")
    vocab = api.llama_vocab_n_tokens(api.llama_model_get_vocab(model))
    rows = [np.ctypeslib.as_array(api.llama_get_logits_ith(context, i), (vocab,)) for i in range(len(ids))]
    np.save(target, np.stack(rows))
    api.llama_batch_free(batch)
    api.llama_free(context)
    api.llama_model_free(model)


def tokenize(path: str, texts_path: str, target: str) -> None:
    """Save the ids of each text: no <bos>, and control tokens are not looked for."""
    params = _model_params()
    params.vocab_only = True
    model = api.llama_model_load_from_file(path.encode(), params)
    if not model:
        raise RuntimeError(f"llama.cpp refuses {path}")
    vocab = api.llama_model_get_vocab(model)
    with open(texts_path, encoding="utf-8") as file:
        ids = [_ids(vocab, text.encode()) for text in json.load(file)]
    with open(target, "w", encoding="utf-8") as file:
        json.dump(ids, file)
    api.llama_model_free(model)


def encode(path: str, mmproj: str, pictures: str, target: str) -> None:
    """Save float32 [n, tokens, width], the soft tokens of pictures uint8 [n, S, S, 3] of the right size."""
    from llama_cpp import mtmd_cpp as eyes

    model = api.llama_model_load_from_file(path.encode(), _model_params())
    params = eyes.mtmd_context_params_default()
    params.use_gpu, params.n_threads, params.warmup = False, 2, False
    params.flash_attn_type = api.LLAMA_FLASH_ATTN_TYPE_DISABLED
    context = eyes.mtmd_init_from_file(mmproj.encode(), model, params) if model else None
    if not context:
        raise RuntimeError(f"llama.cpp refuses {mmproj} or {path}")
    width = api.llama_model_n_embd(model)
    found = [_soft_tokens(eyes, context, picture, width) for picture in np.load(pictures)]
    np.save(target, np.stack(found))
    eyes.mtmd_free(context)
    api.llama_model_free(model)


def _soft_tokens(eyes: Any, context: Any, picture: np.ndarray, width: int) -> np.ndarray:
    data = np.ascontiguousarray(picture).ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
    bitmap = eyes.mtmd_bitmap_init(picture.shape[1], picture.shape[0], data)
    chunks = eyes.mtmd_input_chunks_init()
    marker = eyes.mtmd_default_marker()
    text = eyes.mtmd_input_text(marker, len(marker), False, True)
    bitmaps = (eyes.mtmd_bitmap_p_ctypes * 1)(bitmap)
    if eyes.mtmd_tokenize(context, chunks, ctypes.byref(text), bitmaps, 1):
        raise RuntimeError("llama.cpp cannot cut the picture")
    every = [eyes.mtmd_input_chunks_get(chunks, i) for i in range(eyes.mtmd_input_chunks_size(chunks))]
    kind = eyes.MTMD_INPUT_CHUNK_TYPE_IMAGE
    (chunk,) = [chunk for chunk in every if eyes.mtmd_input_chunk_get_type(chunk) == kind]
    if eyes.mtmd_encode_chunk(context, chunk):
        raise RuntimeError("llama.cpp cannot encode the picture")
    shape = (eyes.mtmd_input_chunk_get_n_tokens(chunk), width)
    features = np.ctypeslib.as_array(eyes.mtmd_get_output_embd(context), shape).copy()
    eyes.mtmd_input_chunks_free(chunks)
    eyes.mtmd_bitmap_free(bitmap)
    return features


def _ids(vocab: object, text: bytes) -> list[int]:
    room = (api.llama_token * (len(text) + 1))()
    return room[: api.llama_tokenize(vocab, text, len(text), room, len(room), False, False)]


def _model_params() -> api.llama_model_params:
    params = api.llama_model_default_params()
    params.n_gpu_layers = 0
    return params


def _context_params() -> api.llama_context_params:
    params = api.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = BATCH
    params.n_threads = params.n_threads_batch = 2
    params.type_k = params.type_v = api.GGML_TYPE_F32
    params.flash_attn_type = api.LLAMA_FLASH_ATTN_TYPE_DISABLED
    return params


def main() -> None:
    api.llama_backend_init()
    work = {"quantize": quantize, "logits": logits, "tokenize": tokenize, "encode": encode}
    with open(sys.argv[1], encoding="utf-8") as file:
        for name, *arguments in json.load(file):
            work[name](*arguments)


if __name__ == "__main__":
    main()
