"""The pen: writes SVG elements in the light of one scene and collects the definitions they refer to.

Imports the geometry and the palette only.
"""

from collections.abc import Sequence
from typing import TypeAlias

from demo.drawing.geometry import number
from demo.drawing.palette import RGB, hex_colour

Paint: TypeAlias = RGB | str
"""A colour of the world, which the light changes, or SVG paint used as it is ("#ffffff", "url(#sky)")."""

Stop: TypeAlias = tuple[float, Paint, float]
"""A gradient stop: offset 0-1, paint, opacity 0-1."""


class Pen:
    """Writes SVG elements as text; `definitions` grows as gradients and clips are used."""

    def __init__(self, light: float, warmth: float) -> None:
        """Take up the pen in a light.

        Args:
            light: Brightness, 1.0 = as painted.
            warmth: Above 0 strengthens red and weakens blue, below 0 the other way round.
        """
        self.definitions: list[str] = []
        self._red = light * (1 + warmth)
        self._green = light
        self._blue = light * (1 - warmth)
        self._written: dict[RGB, str] = {}

    def paint(self, paint: Paint) -> str:
        """The SVG paint for a colour in this light."""
        if isinstance(paint, str):
            return paint
        text = self._written.get(paint)
        if text is None:
            text = hex_colour((paint[0] * self._red, paint[1] * self._green, paint[2] * self._blue))
            self._written[paint] = text
        return text

    def fill(self, path: str, paint: Paint, opacity: float = 1.0) -> str:
        """A filled path."""
        return f'<path d="{path}" fill="{self.paint(paint)}"{_opacity("fill", opacity)}/>'

    def line(self, path: str, paint: Paint, width: float, *, opacity: float = 1.0, round_ends: bool = False) -> str:
        """A stroked path without a filling."""
        ends = ' stroke-linecap="round"' if round_ends else ""
        stroke = f'stroke="{self.paint(paint)}" stroke-width="{number(width)}"'
        return f'<path d="{path}" fill="none" {stroke}{_opacity("stroke", opacity)}{ends}/>'

    def ellipse(self, x: float, y: float, radius_x: float, radius_y: float, paint: Paint, opacity: float = 1.0) -> str:
        """A filled ellipse."""
        shape = f'cx="{number(x)}" cy="{number(y)}" rx="{number(radius_x)}" ry="{number(radius_y)}"'
        return f'<ellipse {shape} fill="{self.paint(paint)}"{_opacity("fill", opacity)}/>'

    def circle(self, x: float, y: float, radius: float, paint: Paint) -> str:
        """A filled circle."""
        shape = f'cx="{number(x)}" cy="{number(y)}" r="{number(radius)}"'
        return f'<circle {shape} fill="{self.paint(paint)}"/>'

    def rectangle(self, x: float, y: float, width: float, height: float, paint: Paint) -> str:
        """A filled rectangle."""
        shape = f'x="{number(x)}" y="{number(y)}" width="{number(width)}" height="{number(height)}"'
        return f'<rect {shape} fill="{self.paint(paint)}"/>'

    def vertical_gradient(self, name: str, stops: Sequence[Stop]) -> str:
        """Define a gradient from top to bottom and return the paint that uses it."""
        return self._gradient("linearGradient", name, 'x1="0" y1="0" x2="0" y2="1"', stops)

    def radial_gradient(self, name: str, stops: Sequence[Stop], radius: float = 0.5) -> str:
        """Define a gradient from the centre outwards and return the paint that uses it."""
        return self._gradient("radialGradient", name, f'r="{number(radius)}"', stops)

    def clipped(self, name: str, outline: str, elements: Sequence[str]) -> list[str]:
        """The elements cut off at `outline`: one group, or nothing when there is nothing to cut."""
        if not elements:
            return []
        self.definitions.append(f'<clipPath id="{name}"><path d="{outline}"/></clipPath>')
        return [f'<g clip-path="url(#{name})">{"".join(elements)}</g>']

    def _gradient(self, kind: str, name: str, shape: str, stops: Sequence[Stop]) -> str:
        body = "".join(
            f'<stop offset="{number(offset)}" stop-color="{self.paint(paint)}"{_opacity("stop", opacity)}/>'
            for offset, paint, opacity in stops
        )
        self.definitions.append(f'<{kind} id="{name}" {shape}>{body}</{kind}>')
        return f"url(#{name})"


def _opacity(kind: str, value: float) -> str:
    return "" if value == 1.0 else f' {kind}-opacity="{number(value)}"'
