"""Framing: where the bird stands in the picture and how large, so that no part of it is cut off."""

from dataclasses import dataclass

from demo.drawing.bird import reach
from demo.drawing.figure import Figure
from demo.drawing.geometry import number, rotated
from demo.drawing.scene import Scene

_MARGIN = 2.5  # room for round line ends and the small overshoot of curves
_ROOM = 100 - 2 * _MARGIN


@dataclass(frozen=True)
class Placement:
    """From the figure's local coordinates to the picture: tilt, then scale and mirror, then move."""

    x: float
    y: float
    scale: float
    flip: bool
    tilt: float

    @property
    def transform(self) -> str:
        """The placement as the value of SVG's `transform`."""
        move = f"translate({number(self.x)} {number(self.y)})"
        width = -self.scale if self.flip else self.scale
        return f"{move} scale({number(width)} {number(self.scale)}) rotate({number(self.tilt)})"


def placement(figure: Figure, scene: Scene) -> Placement:
    """The scene's place and size, corrected where a crest, wing, bill or tail would leave the picture.

    The bird is moved before it is made smaller: its size is part of what makes photos differ.
    """
    points = rotated(reach(figure), figure.tilt)
    across, down = zip(*points, strict=True)
    left, right, top, bottom = min(across), max(across), min(down), max(down)
    if scene.flip:
        left, right = -right, -left
    scale = min(scene.scale, _ROOM / (right - left), _ROOM / (bottom - top))
    standing_tall = figure.attributes.plan == "wader" and figure.pose != "fly"
    return Placement(
        x=_inside(50 + scene.dx, left * scale, right * scale),
        y=_inside((40 if standing_tall else 47) + scene.dy, top * scale, bottom * scale),
        scale=scale,
        flip=scene.flip,
        tilt=figure.tilt,
    )


def _inside(centre: float, low: float, high: float) -> float:
    """The centre nearest to `centre` that keeps `centre + low` and `centre + high` inside the margins."""
    return max(_MARGIN - low, min(100 - _MARGIN - high, centre))
