"""A sheet to draw on: text, boxes, lines and arrows, written as an SVG file.

Colours are classes of a style sheet with a light and a dark half, chosen by the reader's system. The sheet
has a ground of its own, so that a picture is readable even where the page around it has the other half. No
font is embedded: widths are estimated for the widest of the usual ones, and what fits that fits all of them.
"""

from collections.abc import Mapping
from html import escape

LIGHT = {
    "ground": "#ffffff", "edge": "#d0d7de", "ink": "#1f2328", "dim": "#59636e", "faint": "#e6eaee",
    "norm": "#eaeef2", "linear": "#ffffff", "mixer": "#cfe5ff", "feed_forward": "#e6d9fb",
    "function": "#fdeec2", "memory": "#cdf0d4",
    "attention": "#0969da", "position": "#bc6c00", "experts": "#8250df", "block": "#57606a",
    "recurrence": "#1a7f37",
}  # fmt: skip
DARK = {
    "ground": "#0d1117", "edge": "#3d444d", "ink": "#e6edf3", "dim": "#9198a1", "faint": "#21262d",
    "norm": "#262c36", "linear": "#151b23", "mixer": "#10335c", "feed_forward": "#3a2460",
    "function": "#4a3806", "memory": "#12411f",
    "attention": "#4493f8", "position": "#e3a13c", "experts": "#b083f0", "block": "#9198a1",
    "recurrence": "#3fb950",
}  # fmt: skip
FONT = "system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif"
NARROW, WIDE = set("iljtfrI.,:;'|!()[] /·-"), set("mwMW%+×√")


def text_width(text: str, size: float, bold: bool = False) -> float:
    """Estimate how wide a text is, in a wide font."""
    shares = (0.4 if c in NARROW else 1.0 if c in WIDE else 0.72 if c.isupper() else 0.62 for c in text)
    return size * sum(shares) * (1.1 if bold else 1.0)


class Sheet:
    """Gathers what is drawn; ``str(sheet)`` is the file.

    width, height  in pixels
    title          what it shows, for those who cannot see it
    """

    def __init__(self, width: float, height: float, title: str):
        self.width, self.height, self.title = width, height, title
        self._drawn: list[str] = []

    def text(self, x: float, y: float, text: str, size: float = 14, colour: str = "ink", **how: str) -> None:
        """Write a line whose middle is at height y.

        how  ``anchor`` middle or end, ``weight`` bold, ``style`` italic
        """
        names = {"anchor": "text-anchor", "weight": "font-weight", "style": "font-style"}
        more = {names[key]: value for key, value in how.items()}
        # Not dominant-baseline, which not every program that shows SVG obeys.
        place = {"x": x, "y": y + 0.35 * size, "font-size": size, "class": f"{colour}-fill"}
        self._element("text", place | more, escape(text))

    def box(self, x: float, y: float, width: float, height: float, colour: str, dashed: bool = False) -> None:
        """Draw a box from its upper left corner."""
        shape = {
            "x": x,
            "y": y,
            "width": width,
            "height": height,
            "rx": 6,
            "class": f"{colour}-fill dim-line",
        }
        self._element("rect", shape | ({"stroke-dasharray": "4 3"} if dashed else {}))

    def circle(self, x: float, y: float, radius: float, fill: str, line: str = "dim") -> None:
        """Draw a circle around a point."""
        self._element("circle", {"cx": x, "cy": y, "r": radius, "class": f"{fill}-fill {line}-line"})

    def line(self, points: list[tuple[float, float]], width: float = 1.4, colour: str = "dim") -> None:
        """Draw a line through points."""
        path = " ".join(f"{_short(x)},{_short(y)}" for x, y in points)
        self._element("polyline", {"points": path, "class": f"{colour}-line", "stroke-width": width})

    def head(self, tail: tuple[float, float], tip: tuple[float, float], colour: str = "dim") -> None:
        """Draw the head of an arrow that comes from ``tail`` along one axis."""
        (x, y), size = tip, 5.0
        dx, dy = (x > tail[0]) - (x < tail[0]), (y > tail[1]) - (y < tail[1])
        back = x - 1.5 * size * dx, y - 1.5 * size * dy
        corners = [tip, (back[0] - size * dy * 0.7, back[1] - size * dx * 0.7)]
        corners.append((back[0] + size * dy * 0.7, back[1] + size * dx * 0.7))
        path = " ".join(f"{_short(a)},{_short(b)}" for a, b in corners)
        self._element("polygon", {"points": path, "class": f"{colour}-fill"})

    def _element(self, tag: str, attributes: Mapping[str, object], content: str = "") -> None:
        written = "".join(
            f' {key}="{_short(value) if isinstance(value, int | float) else value}"'
            for key, value in attributes.items()
        )
        self._drawn.append(f"<{tag}{written}>{content}</{tag}>" if content else f"<{tag}{written}/>")

    def __str__(self) -> str:
        width, height = _short(self.width), _short(self.height)
        used = {name for name in LIGHT if any(f"{name}-" in drawn for drawn in self._drawn)}
        colours = {name: value for name, value in LIGHT.items() if name in used | {"ground", "edge"}}
        dark = _rules({name: DARK[name] for name in colours})
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
                f'viewBox="0 0 {width} {height}" role="img" font-family="{FONT}">',
                f"<title>{escape(self.title)}</title>",
                "<style>",
                "polyline{fill:none;stroke-linejoin:round}",
                *_rules(colours),
                "@media (prefers-color-scheme:dark){",
                *dark,
                "}",
                "</style>",
                f'<rect x="0.5" y="0.5" width="{_short(self.width - 1)}" height="{_short(self.height - 1)}" '
                'rx="8" class="ground-fill edge-line"/>',
                *self._drawn,
                "</svg>\n",
            ]
        )


def _rules(colours: Mapping[str, str]) -> list[str]:
    return [f".{name}-fill{{fill:{value}}} .{name}-line{{stroke:{value}}}" for name, value in colours.items()]


def _short(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
