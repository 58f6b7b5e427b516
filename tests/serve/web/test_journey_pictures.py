"""People's way through the chat with pictures, before a model that sees."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

import gemmary
from gemmary.serve.app import create_app
from gemmary.serve.history import History
from gemmary.serve.models import Models
from tests.serve.server import serving

from .conftest import Tab
from .visitor import ask, until


def png(size: tuple[int, int]) -> bytes:
    image = Image.new("RGB", size, "#dfe7f5")
    pen = ImageDraw.Draw(image)
    for left in range(0, size[0], 60):
        pen.rectangle((left, 20 + left % 90, left + 40, size[1] - 20), fill=(80, 90, 60 + left % 190))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def eyes(browser: Any, tmp_path: Path) -> Iterator[Tab]:
    """A tab before a tiny model that sees."""
    from tests.engine.seeing import build

    build(tmp_path / "model")
    history = History(tmp_path / "history.db")
    with (
        gemmary.load(tmp_path / "model", threads=1, streams=2, queue=4) as model,
        serving(create_app(Models({"eyes": model}), None, history)) as url,
    ):
        context = browser.new_context(viewport={"width": 1440, "height": 900}, permissions=["clipboard-read"])
        yield Tab(context, url)
        context.close()
    history.close()


DROP = """([text, name]) => {
  const bytes = Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], name, { type: "image/png" }));
  return data;
}"""


@pytest.mark.long
@pytest.mark.timeout(900)
def test_pictures_picked_dropped_pasted_cut_and_sent(eyes: Tab, tmp_path: Path) -> None:
    import base64

    page = eyes.open()
    page.click("#settings")
    page.check("#pan_and_scan")
    page.fill("#max_tokens", "8")
    page.click("#panel .solid")
    (tmp_path / "wide.png").write_bytes(png((1600, 600)))
    (tmp_path / "huge.png").write_bytes(png((6000, 1200)))
    (tmp_path / "text.png").write_text("no picture")
    page.set_input_files("#files", [tmp_path / "wide.png", tmp_path / "huge.png"])
    page.wait_for_selector("#thumbs li >> nth=1")
    until(page, "document.querySelectorAll('#thumbs canvas.crop').length === 3 + 4")
    sizes = page.evaluate("[...document.querySelectorAll('#thumbs img')].map((one) => one.naturalWidth)")
    assert sizes == [1600, 3584], "what is huge is made smaller"
    data = page.evaluate_handle(DROP, [base64.b64encode(png((300, 300))).decode(), "dropped.png"])
    page.dispatch_event("body", "dragenter", {"dataTransfer": data})
    assert page.is_visible("#drop")
    page.dispatch_event("body", "drop", {"dataTransfer": data})
    page.wait_for_selector("#thumbs li >> nth=2")
    assert page.is_hidden("#drop")
    page.evaluate(
        """(data) => document.getElementById("ask").dispatchEvent(
             new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true }))""",
        page.evaluate_handle(DROP, [base64.b64encode(png((200, 200))).decode(), "pasted.png"]),
    )
    page.wait_for_selector("#thumbs li >> nth=3")
    page.set_input_files("#files", tmp_path / "text.png")
    page.wait_for_selector("#banner.wrong")
    assert "no picture" in page.text_content("#banner")
    eyes.axe()
    for name in ("huge.png", "pasted.png"):
        page.get_by_role("button", name=f"Remove {name}").click()
    assert page.locator("#thumbs li").count() == 2
    sent: list[dict[str, Any]] = []
    page.on("request", lambda r: sent.append(r.post_data_json) if r.url.endswith("/completions") else None)
    ask(page, "what is it")
    parts = sent[0]["messages"][0]["content"]
    assert [part["type"] for part in parts] == ["image_url", "image_url", "text"] and sent[0][
        "pan_and_scan"
    ] is True
    decoded = Image.open(io.BytesIO(base64.b64decode(parts[0]["image_url"]["url"].split(",")[1])))
    assert decoded.size == (1600, 600)
    assert page.locator(".pictures img").count() == 2 and page.locator(".pictures canvas").count() == 3
    page.reload()
    until(
        page, "[...document.querySelectorAll('.pictures img')].filter((one) => one.naturalWidth).length === 2"
    )
    ask(page, "and now")  # after the reload pictures come back from the server
    assert sent[-1]["messages"][0]["content"][0]["image_url"]["url"] == parts[0]["image_url"]["url"]
    eyes.axe()
    eyes.check()
