"""Wings: folded on the body, or raised in flight; with bars or a patch in the bar colour."""

from demo.drawing.figure import Figure
from demo.drawing.geometry import Point, blob, path
from demo.drawing.palette import BLACK, mix
from demo.drawing.pen import Pen

_NEAR, _FAR = -1.0, 1.6  # how far a raised wing leans forward, in steps of six units


def near_wing(figure: Figure, pen: Pen) -> list[str]:
    """The wing towards us, with its markings; drawn last, over the body."""
    if figure.pose == "fly":
        outline = blob(_raised(figure, _NEAR), 0.8)
        markings = [*_raised_feathers(figure, pen), *_raised_markings(figure, pen)]
    else:
        outline = blob(_folded(figure), 0.9)
        markings = [*_folded_feathers(figure, pen), *_folded_markings(figure, pen)]
    surface = pen.fill(outline, mix(figure.upper, BLACK, 0.16))
    return [surface, *pen.clipped("wing", outline, markings)]


def far_wing(figure: Figure, pen: Pen) -> list[str]:
    """The wing behind the body, seen in flight only."""
    if figure.pose != "fly":
        return []
    return [pen.fill(blob(_raised(figure, _FAR), 0.8), mix(figure.upper, BLACK, 0.35))]


def wing_reach(figure: Figure) -> list[Point]:
    """Points that bound both wings."""
    if figure.pose == "fly":
        return _raised(figure, _NEAR) + _raised(figure, _FAR)
    return _folded(figure)


def _raised(figure: Figure, lean: float) -> list[Point]:
    a, b = figure.plan.half_length, figure.plan.half_depth
    return [
        (a * 0.5, -b * 0.5),
        (a * 0.2 + 6 * lean, -b - 17),
        (-a * 0.1 - 4 + 6 * lean, -b - 31),
        (-a * 0.55 - 4 + 4 * lean, -b - 22),
        (-a * 0.6, -b - 8),
        (-a * 0.55, -b * 0.4),
    ]


def _raised_feathers(figure: Figure, pen: Pen) -> list[str]:
    a, b = figure.plan.half_length, figure.plan.half_depth
    return [
        pen.line(
            path("M", -a * 0.75 + i * 3.2, -b * 0.3, "L", -a * 0.95 + i * 3.6 - 4, -b - 30),
            BLACK,
            0.9,
            opacity=0.13,
        )
        for i in range(5)
    ]


def _raised_markings(figure: Figure, pen: Pen) -> list[str]:
    a, b = figure.plan.half_length, figure.plan.half_depth
    wing = figure.attributes.wing
    if wing == "patch":
        return [pen.ellipse(-a * 0.12, -b - 9, 6.5, 5, figure.bar)]
    heights = {"plain": (), "one bar": (-b - 12,), "two bars": (-b - 12, -b - 19)}[wing]
    return [pen.line(path("M", -a, y + 3, "Q", 0, y - 2, a, y + 2), figure.bar, 2.6) for y in heights]


def _folded(figure: Figure) -> list[Point]:
    a, b = figure.plan.half_length, figure.plan.half_depth
    return [
        (a * 0.55, -b * 0.35),
        (a * 0.1, -b * 0.72),
        (-a * 0.55, -b * 0.45),
        (-a * 1.28, b * 0.18),
        (-a * 0.55, b * 0.45),
        (a * 0.2, b * 0.42),
    ]


def _folded_feathers(figure: Figure, pen: Pen) -> list[str]:
    a, b = figure.plan.half_length, figure.plan.half_depth
    elements = []
    for i in range(4):
        drop = i * b * 0.16
        start, bend, end = -b * 0.2 + drop, -b * 0.15 + drop, b * 0.1 + i * b * 0.1
        feather = path("M", a * 0.1 - i * 2, start, "Q", -a * 0.6, bend, -a * 1.3, end)
        elements.append(pen.line(feather, BLACK, 0.8, opacity=0.16))
    return elements


def _folded_markings(figure: Figure, pen: Pen) -> list[str]:
    a, b = figure.plan.half_length, figure.plan.half_depth
    wing = figure.attributes.wing
    if wing == "patch":
        return [pen.ellipse(-a * 0.18, -b * 0.08, a * 0.3, b * 0.27, figure.bar)]
    places = {"plain": (), "one bar": (-0.02,), "two bars": (0.12, -0.3)}[wing]
    return [
        pen.line(path("M", a * (x + 0.12), -b, "Q", a * (x - 0.12), 0, a * (x + 0.05), b), figure.bar, 2.6)
        for x in places
    ]
