"""Numbers, points and SVG paths. Imports the standard library only."""

import math
from collections.abc import Sequence
from typing import TypeAlias

Point: TypeAlias = tuple[float, float]
"""x to the right and y down, in SVG user units; the picture is 100 units wide and high."""


def number(value: float) -> str:
    """The number with two decimals, and never "-0.00": equal drawings must be equal texts."""
    text = f"{value:.2f}"
    return "0.00" if text == "-0.00" else text


def path(*parts: str | float) -> str:
    """SVG path data from command letters and numbers: `path("M", 0, 1.5, "L", 3, 4, "Z")`."""
    return " ".join(part if isinstance(part, str) else number(part) for part in parts)


def polygon(points: Sequence[Point]) -> str:
    """The closed path with straight sides through `points`."""
    return "M" + " L".join(f"{number(x)} {number(y)}" for x, y in points) + "Z"


def blob(points: Sequence[Point], roundness: float) -> str:
    """The closed smooth path through `points`: a Catmull-Rom spline written as cubic Bézier curves.

    Args:
        points: At least three points, in order around the shape.
        roundness: Length of the curve handles: 0.0 gives straight sides, 0.95 a full, round shape.
    """
    # A fifth of the chord between the neighbours: with a third, round heads look octagonal.
    handle = roundness / 5
    count = len(points)
    pieces = [f"M{number(points[0][0])} {number(points[0][1])}"]
    for i in range(count):
        (x0, y0), (x1, y1) = points[i - 1], points[i]
        (x2, y2), (x3, y3) = points[(i + 1) % count], points[(i + 2) % count]
        leave = f"{number(x1 + (x2 - x0) * handle)} {number(y1 + (y2 - y0) * handle)}"
        arrive = f"{number(x2 - (x3 - x1) * handle)} {number(y2 - (y3 - y1) * handle)}"
        pieces.append(f"C{leave} {arrive} {number(x2)} {number(y2)}")
    return " ".join(pieces) + "Z"


def rotated(points: Sequence[Point], degrees: float) -> list[Point]:
    """`points` turned about the origin, clockwise on the screen for positive degrees (as SVG's `rotate`)."""
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    return [(x * cosine - y * sine, x * sine + y * cosine) for x, y in points]


def around(centre: Point, radius: float, points: Sequence[Point]) -> list[Point]:
    """`points` given in radii about the origin, moved to a circle of `radius` about `centre`."""
    return [(centre[0] + x * radius, centre[1] + y * radius) for x, y in points]
