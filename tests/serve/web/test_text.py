"""What a model writes looks the same however it was cut; prices are no formulas."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import Tab

TEXTS = [
    "# A title\n\nA paragraph with *some* `code`\nand **more**.\n\n"
    "- one\n- two\n\n  still two\n\n1. three\n\n---\n\nend",
    "```python\ndef f(x):\n    return x + 1\n```\n\ntext\n\n```\nopen to the end\n",
    "| a | b |\n| --- | ---: |\n| 1 | 2 |\n| 3 | 4 |\n\nbehind",
    "Sum: $$\\sum_i x_i$$ and $a_1$.\n\n$$\nE = mc^2\n$$\n\n\\[\n\\frac{1}{2}\n\\]\n\nIt costs $5 or $6.",
    "See [one] and [two].\n\nMore text.\n\n[one]: https://example.org/1\n[two]: https://example.org/2\n",
    "Title\n=====\n\n> quote\n> more\n\nlazy\n* a\n* b\n    * c\n\nafter\r\n\r\nlast \r\n",
    "<b>raw</b> &amp; <br> entity &copy;\n\n<div>\n\nin *it*\n\n</div>\n\n\ttab code\n",
    "~~gone~~ https://example.org/a_b_c. **bold *both*** _x_ a*b*c 2*3*4\n\n- [x] done\n- [ ] open",
]
GROW = """async (text) => {
  const { LiveText } = await import("/static/js/livetext.js");
  const [grown, whole] = [document.createElement("div"), document.createElement("div")];
  document.getElementById("thread").append(grown, whole);
  const live = new LiveText(grown);
  let drawnAgain = 0;
  for (let end = 1; end <= text.length; end++) {
    const kept = live.closed.flatMap(({ nodes }) => nodes);
    live.text = text.slice(0, end);
    live.draw();
    drawnAgain += kept.filter((node) => node.parentNode !== grown).length;
  }
  live.finish(text);
  new LiveText(whole).finish(text);
  await new Promise((resolve) => setTimeout(resolve, 60));
  const result = [grown.innerHTML, whole.innerHTML, live.closed.length, drawnAgain];
  grown.remove();
  whole.remove();
  return result;
}"""
FORMULAS = """async (text) => {
  const { blocks, nodesOf } = await import("/static/js/markdown.js");
  await import("/static/vendor/katex.js");
  const found = blocks(text);
  const box = document.createElement("div");
  box.append(...found.flatMap((block) => nodesOf(block, found.links)));
  const source = (node) => node.querySelector("annotation")?.textContent ?? "wrong";
  return [...box.querySelectorAll(".math")].map(source);
}"""


def test_cut_anywhere_it_is_the_same_text(drawing: Tab) -> None:
    page = drawing.page
    for text in TEXTS:
        grown, whole, blocks, again = page.evaluate(GROW, text)
        assert grown == whole, text
        assert blocks > 1 and again == 0, text
    drawing.check()


CASES: list[tuple[str, list[str]]] = [
    ("It costs $5 and $10.", []),
    ("Between $5-$10, US$3, 4$ and $ 5 $", []),
    ("$20 million for $30 million", []),
    ("from $1,000 to $2,000$", []),
    ("$HOME and $PATH", []),
    (r"escaped \$x\$ stays", []),
    ("`$x$` and\n```\n$y$\n```", []),
    ("$x$, $y_1$ and $2x+1$", ["x", "y_1", "2x+1"]),
    (r"\(a\) and \[b\]", ["a", "b"]),
    ("$$c$$", ["c"]),
    ("$5$ apples", []),
    (r"$\alpha$-helix, $n$-th", [r"\alpha", "n"]),
    ("| $a$ | $5 |\n| - | - |\n| $x$ | $6 |", ["a", "x"]),
    (r"$\notacommand$", ["wrong"]),
    ("**$x$** costs $3", ["x"]),
]


def test_formulas_and_prices(drawing: Tab) -> None:
    page = drawing.page
    found: Any = {text: page.evaluate(FORMULAS, text) for text, _ in CASES}
    assert found == dict(CASES)
    drawing.check()


def test_what_is_drawn(drawing: Tab) -> None:
    page = drawing.page
    page.evaluate(
        """async (text) => {
          const { LiveText } = await import("/static/js/livetext.js");
          const root = document.createElement("div");
          root.id = "drawn";
          document.getElementById("thread").append(root);
          new LiveText(root).finish(text);
          await import("/static/vendor/highlight.js");
        }""",
        "```python\nreturn 1\n```\n\n| a |\n| -: |\n| 1 |\n\n![a picture](https://evil.test/x.png)\n\n[x](mailto:a@b.c)",
    )
    page.wait_for_selector("#drawn .hljs-keyword", state="attached")
    assert page.text_content("#drawn figcaption") == "python"
    assert page.get_attribute("#drawn td", "align") == "right"
    assert page.text_content("#drawn a >> nth=0") == "a picture"
    assert page.locator("#drawn img").count() == 0
    drawing.check()


@pytest.mark.long
@pytest.mark.timeout(600)
def test_long_texts_cut_anywhere(drawing: Tab) -> None:
    page = drawing.page
    for first in TEXTS:
        for second in TEXTS:
            text = f"{first}\n\n{second}"
            grown, whole, _, again = page.evaluate(GROW, text)
            assert grown == whole and again == 0, text
