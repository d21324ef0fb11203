"""Legs and toes: straight down in the picture whatever the body's tilt, or the feet would miss the branch."""

from demo.drawing.figure import Figure
from demo.drawing.geometry import Point, path, rotated
from demo.drawing.palette import mix
from demo.drawing.pen import Pen

_HIPS = (-2.5, 3.5)
# Steps from the ankle in the picture's directions, foreshortened because we look along the ground.
_TOES: tuple[Point, ...] = ((1.9917, -0.8356), (2.5605, 0.2257), (1.4913, 1.0649))


def legs(figure: Figure, pen: Pen) -> list[str]:
    """Both legs, for a bird that stands or perches; hidden in water and in flight."""
    if figure.pose not in ("perch", "ground"):
        return []
    colour = mix(figure.bill, (60, 50, 40), 0.4)
    hip_y = figure.plan.half_depth * 0.75
    toes = rotated(_TOES, -figure.tilt)
    elements = []
    for hip_x, (x, y) in zip(_HIPS, _feet(figure), strict=True):
        shank = path("M", hip_x, hip_y, "L", x, y)
        elements.append(pen.line(shank, colour, 1.5, round_ends=True))
        elements += [pen.line(path("M", x, y, "l", *toe), colour, 1.1, round_ends=True) for toe in toes]
    return elements


def leg_reach(figure: Figure) -> list[Point]:
    """Points that bound the feet."""
    return _feet(figure) if figure.pose in ("perch", "ground") else []


def _feet(figure: Figure) -> list[Point]:
    # Turned back by the tilt, the step from hip to foot points straight down in the picture.
    [(step_x, step_y)] = rotated([(0, figure.plan.leg + 3)], -figure.tilt)
    hip_y = figure.plan.half_depth * 0.75
    return [(hip_x + step_x, hip_y + step_y) for hip_x in _HIPS]
