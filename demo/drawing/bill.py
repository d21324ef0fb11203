"""Bills: five shapes at the front of the head, sized by the body plan."""

from demo.drawing.figure import Figure
from demo.drawing.geometry import Point, path, polygon
from demo.drawing.palette import BLACK
from demo.drawing.pen import Pen

# The far end of each bill, in units of the plan's bill scale from the base.
_TIPS: dict[str, Point] = {
    "cone": (7.5, 1),
    "needle": (17, 0.6),
    "hook": (7.6, 5.2),
    "curved": (15, 8),
    "spatula": (15, 4.6),
}


def bill(figure: Figure, pen: Pen) -> list[str]:
    """The bill and the line between its halves, to be drawn before the skull that covers its base."""
    x, y = _base(figure)
    gape = path("M", x, y + 0.4, "h", 5 * figure.plan.bill_scale)
    return [pen.fill(_outline(figure), figure.bill), pen.line(gape, BLACK, 0.5, opacity=0.35)]


def bill_reach(figure: Figure) -> list[Point]:
    """The tip of the bill."""
    x, y = _base(figure)
    tip_x, tip_y = _TIPS[figure.attributes.bill]
    scale = figure.plan.bill_scale
    return [(x + tip_x * scale, y + tip_y * scale)]


def _base(figure: Figure) -> Point:
    r = figure.plan.head_radius
    return (figure.head[0] + r * 0.78, figure.head[1] + r * 0.08)


def _outline(figure: Figure) -> str:
    x, y = _base(figure)
    k = figure.plan.bill_scale
    kind = figure.attributes.bill
    if kind == "cone":
        return polygon([(x - 1, y - 3.6 * k), (x + 7.5 * k, y + 0.8), (x - 1, y + 3.8 * k)])
    if kind == "needle":
        return polygon([(x - 1, y - 1.5), (x + 17 * k, y + 0.6), (x - 1, y + 1.7)])
    if kind == "hook":
        upper = path("M", x - 1, y - 3.8 * k, "q", 7 * k, -0.6 * k, 7.6 * k, 9 * k)
        return upper + path(" q", -2.4 * k, -2.6 * k, -7.8 * k, -1.6 * k, "Z")
    if kind == "curved":
        upper = path("M", x - 1, y - 2, "q", 11 * k, -1, 15 * k, 10 * k)
        return upper + path(" q", -6 * k, -7 * k, -15 * k, -6.2 * k, "Z")
    if kind == "spatula":
        return polygon(
            [
                (x - 1, y - 1.8),
                (x + 8 * k, y - 1.2),
                (x + 13 * k, y - 3.6),
                (x + 15 * k, y + 0.8),
                (x + 13 * k, y + 4.6),
                (x + 8 * k, y + 2),
                (x - 1, y + 2.2),
            ]
        )
    raise ValueError(f"unknown bill {kind!r}")
