"""Neck, body, belly and breast pattern."""

from demo.drawing.figure import Figure
from demo.drawing.geometry import Point, blob, path
from demo.drawing.palette import RGB
from demo.drawing.pen import Pen
from demo.randomness import Dice

_INK: RGB = (40, 40, 40)  # for a pattern whose accent colour would vanish on the belly


def neck(figure: Figure, pen: Pen) -> list[str]:
    """The neck: a thick stroke from the body to the centre of the head."""
    a, b = figure.plan.half_length, figure.plan.half_depth
    spine = path("M", a * 0.5, -b * 0.2, "Q", a * 0.95, -b * 0.5, *figure.head)
    width = max(6.5, figure.plan.head_radius * 1.25)
    return [pen.line(spine, figure.upper, width, round_ends=True)]


def body(figure: Figure, pen: Pen, dice: Dice) -> list[str]:
    """The body in the upper colour, the belly and its pattern inside the outline, then light and shade."""
    outline = blob(_outline(figure), 0.95)
    underside = [_belly(figure, pen), *_breast(figure, pen, dice)]
    shade = pen.vertical_gradient(
        "shade",
        [(0, "#ffffff", 0.22), (0.45, "#ffffff", 0), (0.55, "#000000", 0), (1, "#000000", 0.34)],
    )
    return [
        pen.fill(outline, figure.upper),
        *pen.clipped("body", outline, underside),
        pen.fill(outline, shade),
    ]


def body_reach(figure: Figure) -> list[Point]:
    """Points that bound the body."""
    return _outline(figure)


def _outline(figure: Figure) -> list[Point]:
    a, b = figure.plan.half_length, figure.plan.half_depth
    return [
        (-a, 1.5),
        (-a * 0.55, -b * 0.72),
        (a * 0.1, -b),
        (a * 0.72, -b * 0.78),
        (a, -b * 0.1),
        (a * 0.72, b * 0.72),
        (a * 0.05, b),
        (-a * 0.62, b * 0.55),
    ]


def _belly(figure: Figure, pen: Pen) -> str:
    a, b = figure.plan.half_length, figure.plan.half_depth
    points = [
        (-a * 0.9, b * 0.42),
        (-a * 0.2, b * 0.12),
        (a * 0.45, -b * 0.1),
        (a * 0.95, -b * 0.75),
        (a * 1.3, b * 0.2),
        (a * 0.5, b * 1.4),
        (-a * 0.8, b * 1.3),
    ]
    return pen.fill(blob(points, 0.9), figure.belly)


def _breast(figure: Figure, pen: Pen, dice: Dice) -> list[str]:
    a, b = figure.plan.half_length, figure.plan.half_depth
    colour = _INK if figure.accent == figure.belly else figure.accent
    pattern = figure.attributes.breast
    if pattern == "plain":
        return []
    if pattern == "spotted":
        spots = [(dice.uniform(-0.55, 0.95), dice.uniform(0, 0.9)) for _ in range(22)]
        return [pen.circle(a * x, b * y, 1.15, colour) for x, y in spots]
    if pattern == "streaked":
        streaks = [(dice.uniform(-0.4, 0.95), dice.uniform(-0.15, 0.8)) for _ in range(16)]
        return [pen.line(path("M", a * x, b * y, "l", -1, 4.6), colour, 1.15) for x, y in streaks]
    if pattern == "barred":
        bars = [a * (0.98 - 0.26 * i) for i in range(6)]
        return [pen.line(path("M", x, -b * 0.5, "q", 3, b, -3, b * 1.9), colour, 1.5) for x in bars]
    if pattern == "bib":
        return [pen.ellipse(a * 0.9, -b * 0.25, a * 0.34, b * 0.62, colour)]
    raise ValueError(f"unknown breast pattern {pattern!r}")
