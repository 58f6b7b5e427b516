"""`gemmary chat`: one answer, or a conversation."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from json import dumps
from typing import TYPE_CHECKING, Any, cast

import typer

from ..errors import PromptError
from . import flags
from .settings import Settings

if TYPE_CHECKING:
    from ..engine.memory import Cache
    from ..engine.model import Model
    from .attachment import Attachment
    from .speaking import Spoken

DEFAULT = Settings()
SHOWING = "/image FILE shows a picture, or drag one here; "


def chat(
    model: flags.Model = None,
    prompt: flags.Prompt = None,
    image: flags.Image = None,
    system: flags.System = None,
    max_tokens: flags.MaxTokens = None,
    temperature: flags.Temperature = DEFAULT.temperature,
    top_k: flags.TopK = DEFAULT.top_k,
    top_p: flags.TopP = DEFAULT.top_p,
    min_p: flags.MinP = DEFAULT.min_p,
    seed: flags.Seed = None,
    context: flags.Context = None,
    threads: flags.Threads = None,
    draft: flags.Draft = None,
    cache: flags.Cache = None,
    mmproj: flags.Mmproj = None,
    pan_and_scan: flags.PanAndScan = False,
    tiles: flags.Tiles = None,
    json: flags.Json = False,
    verbose: flags.Verbose = False,
) -> None:
    """Talk to a model, or get one answer with -p or piped input.

    \b
    gemmary chat                                      the bundled model, offline
    gemmary chat -p "Why is the sky blue?"            one answer on stdout
    git diff | gemmary chat 4b -p "Review this:"      a prompt and piped input
    gemmary chat 4b --image a.png -p "What is this?"  a question about a picture
    gemmary chat google/gemma-3-4b-it                 Google's 4B; offers the download
    gemmary chat ./model.gguf --context 8k --temperature 0
    """
    settings = Settings(
        temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, seed=seed, max_tokens=max_tokens,
        pan_and_scan=pan_and_scan, tiles=tiles,
    )  # fmt: skip
    settings.check()
    question = _question(prompt)
    from .attachment import attach
    from .opening import find, load

    pictures = [attach(path) for path in image or ()]
    smaller = None if draft is None else find(draft)
    loaded = load(find(model), context, threads, smaller, cast("Cache | None", cache), mmproj)
    if pictures:
        from .introducing import check_sight

        check_sight(loaded)
    if question is not None:
        _answer(loaded, _messages(loaded, system, question, pictures, settings), settings, json, verbose)
    else:
        _talk(loaded, system, settings, pictures)


def _question(prompt: str | None) -> str | None:
    """What to answer once; None for a conversation."""
    from .terminal import interactive

    piped = None if sys.stdin.isatty() else _piped()
    parts = [part.strip() for part in (prompt, piped) if part and part.strip()]
    if parts:
        return "\n\n".join(parts)
    if prompt is not None or not interactive():
        raise typer.BadParameter("nothing to answer: give -p TEXT, pipe text in, or start it in a terminal")
    return None


def _piped() -> str:
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError:
        raise PromptError("the piped input is not UTF-8 text") from None


def _messages(
    model: Model, system: str | None, question: str, pictures: list[Attachment], settings: Settings
) -> list[dict[str, Any]]:
    from .content import arranged
    from .dialogue import Dialogue

    _introduce(model, pictures, settings)
    dialogue = Dialogue(system)
    dialogue.ask(arranged([*pictures, question]))
    return dialogue.messages


def _introduce(model: Model, pictures: list[Attachment], settings: Settings) -> None:
    from .introducing import introduce

    for picture in pictures:
        introduce(model, picture, settings.crops)


def _answer(
    model: Model,
    messages: list[dict[str, Any]],
    settings: Settings,
    json: bool,
    verbose: bool,
) -> None:
    """One answer on stdout."""
    from .speaking import meter, speak
    from .terminal import note

    if json:
        with open(os.devnull, "w", encoding="utf-8") as nowhere:
            spoken = speak(model, messages, settings, nowhere)
        print(dumps(_summary(spoken)))
    else:
        spoken = speak(model, messages, settings, sys.stdout)
        print(flush=True)
    if spoken.last is None:
        raise typer.Exit(130)
    if verbose:
        note(meter(spoken.last, model.context))
    if spoken.last.finish_reason == "context_full":
        note(f"The answer ends here: the context of {model.context:,} tokens is full.")


def _summary(spoken: Spoken) -> dict[str, Any]:
    last = spoken.last
    known = {key: asdict(value) for key in ("usage", "timings") if (value := getattr(last, key, None))}
    return {"text": spoken.text, "finish_reason": last.finish_reason if last else "cancelled", **known}


def _talk(model: Model, system: str | None, settings: Settings, pictures: list[Attachment]) -> None:
    """A conversation in the terminal."""
    from .. import __version__
    from .dialogue import Dialogue
    from .keyboard import reader
    from .session import Session
    from .terminal import dim, note

    size = f"{model.config.parameters / 1e6:,.1f} million parameters, a context of {model.context:,} tokens"
    note(dim(f"Gemmary {__version__}: Gemma 3 {model.config.name}, {size}"))
    sees = model.config.vision is not None
    note(dim(f"/help lists the commands; {SHOWING if sees else ''}Ctrl-D leaves"))
    session = Session(model, Dialogue(system), settings, reader(), sys.stdout)
    if pictures:
        _introduce(model, pictures, settings)
        session.wait(pictures)
    session.run()
