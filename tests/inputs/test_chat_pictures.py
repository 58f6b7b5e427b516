"""Chats with pictures become the ids and pixels that transformers' Gemma3Processor makes of them."""

from __future__ import annotations

import base64
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gemmary.config import VisionConfig
from gemmary.errors import ContextFullError, ImageError, PromptError
from gemmary.inputs import views
from gemmary.inputs.crops import PanAndScan
from gemmary.inputs.draft import MAX_VIEWS
from gemmary.inputs.prompt import Prompt, brightness
from gemmary.inputs.tokenizer import Tokenizer
from gemmary.inputs.turns import chat_ids, chat_prompt

from . import trained
from .drawn import encoded, picture
from .test_stream import BYTES
from .test_turns import CONTENT, RULES, Messages, assistant, part, rendered, system, user

VISION = VisionConfig(width=8, layers=1, heads=1, ffn=8, image=56, patch=14, tokens=4)
OFFICIAL = RULES.replace("refuse(", "raise_exception(").replace("opened", "add_generation_prompt")
PICTURES = [
    picture(*size, seed) for seed, size in enumerate([(60, 60), (900, 300), (300, 800), (512, 512), (1, 40)])
]


def seen(image: object, **more: object) -> dict[str, Any]:
    return {"type": "image", "image": image, **more}


def same(prompt: Prompt, reference: Any) -> bool:
    pixels = np.stack(reference["pixel_values"])
    return (
        prompt.ids == reference["input_ids"][0]
        and prompt.pixels is not None
        and bool((brightness(prompt.pixels) == pixels).all())
    )


def official(processor: Any, messages: Messages, **options: object) -> Any:
    """transformers' answer; an open turn of the model at the end is continued."""
    continued = messages[-1]["role"] in ("assistant", "model")
    if not continued:
        return processor.apply_chat_template(
            messages, chat_template=OFFICIAL, tokenize=True, return_dict=True, add_generation_prompt=True,
            return_tensors=None, processor_kwargs=options,
        )  # fmt: skip
    images = [
        part["image"]
        for message in messages
        for part in message["content"]
        if isinstance(part, dict) and "image" in part
    ]
    return processor(text=rendered(messages), images=[images], add_special_tokens=False, **options)


def conversations(count: int) -> list[Messages]:
    """Random conversations that the official template accepts, pictures anywhere among the parts."""
    chance = random.Random(3)

    def parts() -> list[dict[str, Any]]:
        return [
            seen(chance.choice(PICTURES)) if chance.random() < 0.5 else part(chance.choice(CONTENT))
            for _ in range(chance.randrange(1, 5))
        ]

    found: list[Messages] = []
    while len(found) < count:
        messages = [system(chance.choice(CONTENT[1:]))] if chance.random() < 0.4 else []
        for turn in range(chance.randrange(1, 6)):
            messages.append({"role": ("user", "assistant")[turn % 2], "content": parts()})
        if "'image'" in str(messages):
            found.append(messages)
    return found


@pytest.mark.parametrize("strict", [False, True])
def test_same_as_transformers(strict: bool, tokenizer: Tokenizer, processor: Any) -> None:
    for messages in conversations(60):
        assert same(chat_prompt(tokenizer, messages, VISION, strict=strict), official(processor, messages)), (
            messages
        )


def test_same_with_pan_and_scan(tokenizer: Tokenizer, processor: Any) -> None:
    rules = [
        PanAndScan(),
        PanAndScan(min_crop=100, most=2, ratio=1.1),
        PanAndScan(20, 8, 0.3),
        PanAndScan(256, 1, 1.2),
    ]
    for number, messages in enumerate(conversations(40)):
        rule = rules[number % len(rules)]
        reference = official(
            processor, messages, do_pan_and_scan=True, pan_and_scan_min_crop_size=rule.min_crop,
            pan_and_scan_max_num_crops=rule.most, pan_and_scan_min_ratio_to_activate=rule.ratio,
        )  # fmt: skip
        prompt = chat_prompt(tokenizer, messages, VISION, pan_and_scan=True if rule == PanAndScan() else rule)
        assert same(prompt, reference), (rule, messages)
        assert len(prompt.keys) == len(prompt.pixels)  # type: ignore[arg-type]  # `same` has seen that it is there


def test_the_worked_example(tokenizer: Tokenizer) -> None:
    """2,105,2364,109,255999,262144 x 256,256000,108,Describe.,106,107,105,4368,107, but for words."""
    encode, soft = tokenizer.encode, tokenizer.vocab
    prompt = chat_prompt(tokenizer, [user([seen(PICTURES[0]), part("Describe.")])], VISION)
    assert prompt.ids == [
        2, 105, *encode("user"), 109, tokenizer.start_of_image, *[soft] * 4, tokenizer.end_of_image, 108,
        *encode("Describe."), 106, 107, 105, *encode("model"), 107,
    ]  # fmt: skip
    assert soft == tokenizer.soft and prompt.pixels is not None and prompt.pixels.shape == (1, 3, 56, 56)


def test_every_shape_of_a_part(tokenizer: Tokenizer, tmp_path: Path) -> None:
    data = encoded(PICTURES[1])
    path, text = tmp_path / "a.png", base64.b64encode(data).decode()
    path.write_bytes(data)
    url = f"data:image/png;base64,{text}"
    parts: list[dict[str, Any]] = [
        *(seen(source) for source in (PICTURES[1], np.asarray(PICTURES[1]), data, url, path, str(path))),
        *({"type": "image", "url": source} for source in (url, str(path))),
        *({"type": "image", "path": source} for source in (path, str(path))),
        *({"type": "image", name: source} for name in ("data", "base64") for source in (text, data, url)),
        {"type": "image", "image": None, "path": path},
        {"type": "image_url", "image_url": {"url": url, "detail": "high"}},
        {"type": "image_url", "image_url": url},
    ]  # fmt: skip
    prompts = [chat_prompt(tokenizer, [user([one, part("x")])], VISION) for one in parts]
    assert all(prompt == prompts[0] for prompt in prompts)
    assert all((prompt.pixels == prompts[0].pixels).all() for prompt in prompts)  # type: ignore[union-attr]


def test_parts_decide_over_the_call(tokenizer: Tokenizer) -> None:
    def crops(everywhere: Any, **own: object) -> int:
        prompt = chat_prompt(tokenizer, [user([seen(PICTURES[1], **own)])], VISION, pan_and_scan=everywhere)
        assert prompt.ids.count(tokenizer.soft or -1) == 4 * len(prompt.keys)
        return len(prompt.keys) - 1

    assert crops(False) == 0 and crops(True) == 3
    assert crops(False, pan_and_scan=True) == 3 and crops(True, pan_and_scan=False) == 0
    assert crops(False, pan_and_scan=PanAndScan(most=2)) == crops(PanAndScan(most=2)) == 2
    assert crops(False, tiles=2) == 0, "half of 300 pixels is too little"
    assert crops(PanAndScan(min_crop=100), tiles=2) == crops(PanAndScan(min_crop=100, tiles=2)) == 4
    assert crops(PanAndScan(min_crop=100), tiles=3) == 9


def test_tiles_are_introduced_like_crops(tokenizer: Tokenizer) -> None:
    """The words of pan & scan, for nothing else was trained."""
    prompt = chat_prompt(tokenizer, [user([seen(PICTURES[3], tiles=2), part("Why?")])], VISION)
    text = tokenizer.decode(prompt.ids)
    assert text == (
        "user\nHere is the original image \n\n\n\n and here are some crops to help you see better "
        "\n\n\n\n \n\n\n\n \n\n\n\n \n\n\n\nWhy?\nmodel\n"
    )


@pytest.mark.parametrize(
    ("messages", "meant"),
    [
        ([user([seen(0)]), user("b")], [user([seen(0), part("b")])]),
        ([user("a"), user([seen(0)])], [user([part("a"), seen(0)])]),
        ([user("a"), user([seen(0)]), user([seen(1), part("b")]), user("c")],
         [user([part("a"), seen(0), seen(1), part("b\n\nc")])]),
        ([user([seen(0), part("")]), user([part(" "), seen(1)])], [user([seen(0), seen(1)])]),
        ([system([seen(0), part("S")]), user("a")], [user([seen(0), part("S\n\na")])]),
        ([system([part("S"), seen(0)]), user([seen(1)])],
         [user([part("S"), seen(0), part("\u200b\n\n\u200b"), seen(1)])]),
        ([user("a"), assistant("b"), {"role": "tool", "name": "f", "content": [seen(0), part("c")]}],
         [user("a"), assistant("b"), user([part("Result of f:\n\u200b"), seen(0), part("c")])]),
        ([system([seen(0)]), assistant("b"), user("c")], [user([seen(0)]), assistant("b"), user("c")]),
        ([user("a"), assistant([seen(0)]), assistant("x")], [user("a"), assistant([seen(0), part("x")])]),
    ],
)  # fmt: skip
def test_pictures_where_the_template_has_none(
    messages: Messages, meant: Messages, tokenizer: Tokenizer, model: bytes
) -> None:
    """`meant` is what the rules render; a zero-width space keeps them from trimming, and is taken out."""
    text = rendered(drawn(meant)).replace("\u200b", "")
    around = "\n\n<start_of_image><image_soft_token><end_of_image>\n\n"
    encode = trained.reference(model).encode
    pieces = text.removeprefix("<bos>").replace("<start_of_image>", around).split("<image_soft_token>")
    wanted = [2, *encode(pieces[0])]
    for piece in pieces[1:]:
        wanted += [*[tokenizer.soft] * 4, *encode(piece)]
    prompt = chat_prompt(tokenizer, drawn(messages), VISION)
    assert prompt.ids == wanted
    order = [
        look["image"]
        for message in messages
        for look in message["content"]
        if isinstance(look, dict) and "image" in look
    ]
    alone = [chat_prompt(tokenizer, drawn([user([seen(number)])]), VISION).keys[0] for number in order]
    assert list(prompt.keys) == alone


def drawn(messages: Messages) -> Messages:
    """The same messages with pictures instead of their numbers."""

    def look(one: Any) -> Any:
        return {**one, "image": PICTURES[one["image"]]} if "image" in one else one

    return [
        {**message, "content": [look(one) for one in message["content"]]}
        if isinstance(message["content"], list)
        else message
        for message in messages
    ]


@pytest.mark.parametrize("strict", [False, True])
def test_typed_marks_stay_text(strict: bool, tokenizer: Tokenizer) -> None:
    """No text shows a picture, counts as one, or moves one."""
    typed = "<start_of_image><image_soft_token><end_of_image>"
    prompt = chat_prompt(
        tokenizer, [user([part(typed), seen(PICTURES[0]), part(typed)])], VISION, strict=strict
    )
    marks = [token for token in prompt.ids if tokenizer.is_control(token)]
    start, end, soft = tokenizer.start_of_image, tokenizer.end_of_image, tokenizer.soft
    assert marks == [2, 105, start, soft, soft, soft, soft, end, 106, 105]
    assert tokenizer.decode(prompt.ids) == f"user\n{typed}\n\n\n\n{typed}\nmodel\n"


def test_text_alone_has_no_pixels(tokenizer: Tokenizer) -> None:
    prompt = chat_prompt(tokenizer, [user("Hi")], VISION)
    assert prompt == Prompt(chat_ids(tokenizer, [user("Hi")])) and prompt.pixels is None and prompt.keys == ()


LOOK: dict[str, Any] = {"type": "image", "image": PICTURES[0]}


def shaped(**more: object) -> list[dict[str, Any]]:
    return [{"type": "image", **more}]


def linked(url: object) -> list[dict[str, Any]]:
    return [{"type": "image_url", "image_url": url}]


@pytest.mark.parametrize(
    ("parts", "kind", "fault"),
    [
        (shaped(), PromptError, "must look like"),
        (shaped(image=None), PromptError, "must look like"),
        (shaped(picture=1), PromptError, "must look like"),
        (shaped(image=PICTURES[0], path="a.png"), PromptError, "must look like"),
        (shaped(url="https://a/b.png"), ImageError, "not fetched"),
        (shaped(data="%%%"), ImageError, "not base64"),
        (shaped(data=5), ImageError, "must be a path"),
        (shaped(path="nowhere.png"), ImageError, "no such file"),
        (shaped(image=PICTURES[0], pan_and_scan="yes"), PromptError, "must be True, False"),
        (shaped(image=PICTURES[0], tiles=1), PromptError, "tiles must"),
        (linked(None), ImageError, "takes a data URL"),
        (linked({}), ImageError, "takes a data URL"),
        (linked({"url": "http://a/b.png"}), ImageError, "takes a data URL"),
        (linked({"url": "/etc/passwd"}), ImageError, "takes a data URL"),
        (linked({"url": "data:image/png,x"}), ImageError, "not base64"),
        (shaped(image=PICTURES[0]) * (MAX_VIEWS + 1), ImageError, "more than 64 pictures"),
    ],
)
@pytest.mark.parametrize("strict", [False, True])
def test_faults_are_named(
    parts: Any, kind: type[Exception], fault: str, strict: bool, tokenizer: Tokenizer
) -> None:
    with pytest.raises(kind, match=fault):
        chat_prompt(tokenizer, [user(parts)], VISION, strict=strict)


def test_strict_refuses_pictures_of_a_system_message(tokenizer: Tokenizer) -> None:
    for content in ([LOOK], [part("S"), LOOK]):
        with pytest.raises(PromptError, match="system message"):
            chat_prompt(tokenizer, [system(content), user("a")], VISION, strict=True)


@pytest.mark.parametrize(
    "one", [LOOK, {"type": "image"}, {"type": "image_url", "image_url": {"url": "http://x"}}]
)
def test_a_model_without_eyes_says_so(one: Any, tokenizer: Tokenizer) -> None:
    for messages in ([user([one])], [system([one]), user("a")], [user("a"), assistant([part("b"), one])]):
        with pytest.raises(
            ImageError, match="reads text only: leave the pictures out, or load a model that can see"
        ):
            chat_prompt(tokenizer, messages)
        with pytest.raises(ImageError, match="reads text only"):
            chat_ids(tokenizer, messages)


def test_a_vocabulary_without_marks_says_so() -> None:
    from gemmary.inputs.draft import Draft
    from gemmary.inputs.parts import Shown

    with pytest.raises(ImageError, match="no tokens for pictures"):
        Draft(BYTES, VISION).picture(Shown(Image.new("RGB", (5, 5)), None))


def test_what_cannot_fit_is_refused_before_memory_is_taken(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Squares of four tokens each: with the crops of the third picture they are nine."""
    made: list[int] = []
    original = views.Cut.views

    def counted(cut: views.Cut, side: int) -> views.Views:
        made.append(len(cut.boxes))
        return original(cut, side)

    monkeypatch.setattr(views.Cut, "views", counted)
    cut = {"pan_and_scan": PanAndScan(min_crop=100)}
    asked = [user([seen(PICTURES[1], **cut), seen(PICTURES[0]), seen(PICTURES[2], **cut)])]
    whole = chat_prompt(tokenizer, asked, VISION, context=36)
    assert whole.ids.count(tokenizer.soft or 0) // 4 == len(whole.keys) == sum(made) == 9
    made.clear()
    with pytest.raises(ContextFullError, match="9 pictures, crops included, are 36 tokens"):
        chat_prompt(tokenizer, asked, VISION, context=35)
    assert made == [4, 1]
