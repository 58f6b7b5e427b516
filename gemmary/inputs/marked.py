"""Plain text with pictures in it, without chat turns: what `generate` continues."""

from __future__ import annotations

from collections.abc import Sequence

from ..config import VisionConfig
from ..errors import PromptError
from .crops import PanAndScan, pan_and_scan_of
from .draft import Draft
from .parts import Sight, shown
from .prompt import Prompt
from .tokenizer import Tokenizer, check_text

MARK = "<start_of_image>"


def marked_prompt(
    tokenizer: Tokenizer,
    text: str,
    pictures: Sequence[object],
    vision: VisionConfig | None,
    *,
    pan_and_scan: bool | PanAndScan = False,
) -> Prompt:
    """`text` behind <bos>, with one of `pictures` (see `read_picture`) wherever it says <start_of_image>.

    Only here does a text name its pictures: elsewhere these letters stay letters. PromptError when there are
    not as many pictures as marks; ImageError when a picture or the model is unfit.
    """
    check_text(text)
    if isinstance(pictures, str | bytes) or not isinstance(pictures, Sequence):
        raise PromptError("pictures must be a list, one for each <start_of_image> in the text")
    sight = Sight(vision, pan_and_scan_of(pan_and_scan))
    first, *others = text.split(MARK)
    if len(others) != len(pictures):
        raise PromptError(
            f"the text says {MARK} {len(others)} times, and there are {len(pictures)} pictures: write it "
            "where each of them belongs, and nowhere else"
        )
    draft = Draft(tokenizer, vision)
    draft.control(*(() if tokenizer.bos is None else (tokenizer.bos,)))
    draft.text(first)
    for picture, behind in zip(pictures, others, strict=True):
        draft.picture(shown(picture, sight))
        draft.text(behind)
    return draft.prompt()
