"""Takes the pictures of docs/web.md anew: `python docs/web/screens.py [--out FOLDER]`.

Starts `gemmary serve` with the bundled model on a free port, brings in the texts below, which show what the
page can draw, and asks the model about a generated picture: that question is really asked, and what is seen
is its answer. A model without eyes leaves picture.png and settings-dark.png as they are. Wants playwright,
Debian's chromium, and the fonts of docs/pictures.md.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Browser, Page, sync_playwright

from gemmary.recipes.pictures import Gallery

ROOT = Path(__file__).parents[2]
RUN = "import sys; sys.argv[0] = 'gemmary'; from gemmary.cli import main; main()"
DESK, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
WHOLE = "body:not(.busy) .last .prose:not(:empty)"

CODE = '''Each node counts itself and what is below it:

```python
import asyncio
from dataclasses import dataclass, field


@dataclass
class Node:
    """One place in the tree."""

    name: str
    children: list["Node"] = field(default_factory=list)

    async def walk(self, depth: int = 0) -> int:
        total = 1
        for child in self.children:  # depth first
            total += await child.walk(depth + 1)
        print(f"{'  ' * depth}{self.name}")
        return total


root = Node("root", [Node("left"), Node("right", [Node("leaf")])])
assert asyncio.run(root.walk()) == 4
```

Run it with `python walk.py`. Children come **before** their parent. A tree of depth $d$ needs $O(d)$ frames.
'''
FORMULAS = r"""The roots of $ax^2 + bx + c = 0$ are

$$x_{1,2} = \frac{-b \pm \sqrt{b^2 - 4ac}}{2a}$$

and for a Gaussian, with $\mu$ and $\sigma$:

$$\int_{-\infty}^{\infty} \frac{1}{\sigma\sqrt{2\pi}}\, e^{-\frac{(x-\mu)^2}{2\sigma^2}}\, dx = 1$$

A matrix acts as $\begin{pmatrix} a & b \\ c & d \end{pmatrix} \begin{pmatrix} x \\ y \end{pmatrix}$, and
$\mathbb{E}[X] = \sum_i p_i x_i$.

That costs $5 and not $10. Attention is $\mathrm{softmax}\left(\frac{QK^\top}{\sqrt{d}}\right)V$.
"""
TABLE = """| Model | Parameters | Context | Sees |
| --- | ---: | ---: | --- |
| 1B | 1.0 B | 32,768 | no |
| 4B | 4.3 B | 131,072 | yes |
| 12B | 12.2 B | 131,072 | yes |
| 27B | 27.4 B | 131,072 | yes |

### What to choose

- **On a laptop**: 4B, four bits.
  - with 16 GB, 12B works too
- **On a server**: 27B.
- [x] downloaded
- [ ] measured
"""
TEXTS = {
    "Walk a tree in Python": ("How do I walk a tree in Python?", CODE),
    "Roots, Gaussians and prices": ("Show me roots, the normal distribution, and prices.", FORMULAS),
    "Which Gemma fits my machine?": ("Which Gemma 3 fits my machine?", TABLE),
}  # fmt: skip


@contextlib.contextmanager
def serving(folder: Path, *models: str) -> Iterator[str]:
    """`gemmary serve`, as users start it; its address."""
    command = [sys.executable, "-c", RUN, "serve", *models, "--port", "0", "--no-access-log",
               "--history", str(folder / "history.db")]  # fmt: skip
    given = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=given, stderr=subprocess.PIPE, text=True) as server:
        lines = iter(server.stderr or ())
        found = next((hit for line in lines if (hit := re.search(r"ready on (http://\S+?);", line))), None)
        if found is None:
            raise SystemExit("gemmary serve did not start")
        try:
            yield found[1]
        finally:
            server.terminate()
            server.communicate()


def bring(url: str) -> dict[str, str]:
    """The texts as conversations: title -> id."""
    conversations = []
    for title, said in TEXTS.items():
        messages = [
            {
                "id": f"m00{number}", "parent": f"m00{number - 1}" if number else None, "meta": {},
                "role": "assistant" if number else "user", "content": [{"type": "text", "text": text}],
                "created": 0,
            }
            for number, text in enumerate(said)
        ]  # fmt: skip
        conversations.append(
            {"title": title, "system": "", "settings": {}, "leaf": "m001", "created": 0, "messages": messages,
             "pictures": {}}
        )  # fmt: skip
    file = {"format": "gemmary-conversations", "version": 1, "conversations": conversations}
    made = httpx.post(f"{url}/api/import", json=file, timeout=60).raise_for_status()
    return dict(zip(TEXTS, (one["id"] for one in made.json()["conversations"]), strict=True))


@contextlib.contextmanager
def tab(browser: Browser, url: str, scheme: Any, size: Any = DESK) -> Iterator[Page]:
    """A tab of that size, light or dark."""
    context = browser.new_context(viewport=size, color_scheme=scheme, is_mobile=size is PHONE)
    page = context.new_page()
    page.goto(url)
    page.wait_for_selector("#model option", state="attached")
    yield page
    context.close()


def shoot(page: Page, path: Path) -> None:
    """A picture of the page as it is now."""
    page.wait_for_timeout(500)
    page.screenshot(path=path)
    print(path)


def ask(page: Page, picture: Path, question: str) -> None:
    """Show the picture with its crops, ask, and wait for the whole answer."""
    page.click("#settings")
    page.check("#pan_and_scan")
    page.fill("#temperature", "0")
    page.click("#panel .solid")
    page.set_input_files("#files", picture)
    page.wait_for_selector("#thumbs li")
    page.fill("#ask", question)
    page.keyboard.press("Enter")
    page.wait_for_selector(WHOLE, timeout=300_000)


def drawn(folder: Path, number: int) -> tuple[Path, str]:
    """A wide picture of the kind that the model has learned to see, and a question about it."""
    found = Gallery(seed=0, held=True).draw(number, "banner")
    path = folder / "banner.png"
    found.picture.save(path)
    return path, found.exchanges[0][0]


def main() -> None:
    """All pictures."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--out", type=Path, default=Path(__file__).parent)
    options.add_argument("--picture", type=Path, help="ask about this picture, with --question")
    options.add_argument("--question")
    options.add_argument("--number", type=int, default=4, help="which of the generated pictures")
    options.add_argument("--model", nargs="*", default=[], help="another model than the bundled one")
    given = options.parse_args()
    with (
        tempfile.TemporaryDirectory() as name,
        serving(Path(name), *given.model) as url,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        places = [f"{url}/#{id}" for id in bring(url).values()]
        sees = httpx.get(f"{url}/v1/models").json()["data"][0]["vision"]
        with tab(browser, url if sees else places[1], "light") as page:
            if sees:
                picture, question = (
                    (given.picture, given.question) if given.picture else drawn(Path(name), given.number)
                )
                ask(page, picture, question)
                shoot(page, given.out / "picture.png")
                page.emulate_media(color_scheme="dark")
                page.click("#settings")
                shoot(page, given.out / "settings-dark.png")
            else:
                print("the model is blind: picture.png and settings-dark.png stay as they are")
        for place, file, scheme, size in (
            (places[0], "code-dark.png", "dark", DESK),
            (places[1], "formulas.png", "light", DESK),
            (places[2], "phone-dark.png", "dark", PHONE),
        ):
            with tab(browser, place, scheme, size) as page:
                page.wait_for_selector(WHOLE)
                shoot(page, given.out / file)
        browser.close()


if __name__ == "__main__":
    main()
