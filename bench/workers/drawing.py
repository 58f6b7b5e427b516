"""An SVG of rectangles, lines and text."""

from __future__ import annotations

from xml.sax.saxutils import escape

OURS, PEER = "gemmary", "llama.cpp"
COLOURS = {OURS: "#1f6feb", PEER: "#9aa4b0"}
INK, FAINT = "#24292f", "#d8dee4"
WIDTH = 760


class Drawing:
    """An SVG that grows downwards."""

    def __init__(self, title: str, under: str) -> None:
        self.parts: list[str] = []
        self.text(16, 26, title, size=17, weight=600)
        self.text(16, 45, under, colour="#57606a")

    def text(
        self, x: float, y: float, text: str, size: int = 12, colour: str = INK, anchor: str = "start",
        weight: int = 400,
    ) -> None:  # fmt: skip
        """One line of text, its baseline at y."""
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" text-anchor="{anchor}" '
            f'font-weight="{weight}">{escape(text)}</text>'
        )

    def bar(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        """A filled rectangle."""
        self.parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height}" rx="2" fill="{colour}"/>'
        )

    def line(self, points: list[tuple[float, float]], colour: str, width: float = 1.0) -> None:
        """A line through points."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>')

    def dot(self, x: float, y: float, colour: str) -> None:
        """A point of a line."""
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>')

    def legend(self, names: list[str]) -> None:
        """Which colour is whose, at the top right."""
        for number, name in enumerate(names):
            x = WIDTH - 130 - 90 * (len(names) - 1 - number)
            self.bar(x, 18, 11, 11, COLOURS[name])
            self.text(x + 16, 28, name)

    def svg(self, height: float) -> str:
        """The file."""
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}"'
        font = 'font-family="system-ui, Segoe UI, Helvetica, Arial, sans-serif"'
        ground = f'<rect width="{WIDTH}" height="{height:.0f}" fill="#ffffff"/>'
        return "\n".join([f"{head} {font}>", ground, *self.parts, "</svg>\n"])
