"""The head: skull, markings in the accent colour, eye."""

from demo.drawing.figure import Figure
from demo.drawing.geometry import Point, around, blob, path
from demo.drawing.palette import RGB
from demo.drawing.pen import Pen

# The skull in head radii about its centre: a circle, slightly flattened at the brow.
_SKULL: tuple[Point, ...] = (
    (-1, 0),
    (-0.7, -0.75),
    (0.1, -1),
    (0.8, -0.55),
    (1, 0.1),
    (0.55, 0.8),
    (-0.2, 1),
    (-0.8, 0.65),
)
_EYE_RING: RGB = (238, 220, 160)


def head(figure: Figure, pen: Pen) -> list[str]:
    """Skull, marking and eye, to be drawn after the crest and the bill that grow from behind the skull."""
    skull = blob(around(figure.head, figure.plan.head_radius, _SKULL), 0.95)
    return [
        pen.fill(skull, figure.upper),
        *pen.clipped("head", skull, _marking(figure, pen)),
        *_collar(figure, pen),
        *_eye(figure, pen),
    ]


def head_reach(figure: Figure) -> list[Point]:
    """Points that bound the head."""
    return around(figure.head, figure.plan.head_radius, _SKULL)


def _marking(figure: Figure, pen: Pen) -> list[str]:
    x, y = figure.head
    r = figure.plan.head_radius
    kind, accent = figure.attributes.head, figure.accent
    if kind in ("plain", "collar"):
        return []
    if kind == "cap":
        edge = path("M", x - r * 1.2, y - r * 0.05, "L", x + r * 1.3, y - r * 0.42)
        return [pen.fill(edge + path(" V", y - r * 2, "H", x - r * 2, "Z"), accent)]
    if kind == "stripe":
        brow = path("M", x - r * 1.1, y - r * 0.25, "Q", x, y - r * 0.75, x + r * 1.1, y - r * 0.3)
        return [pen.line(brow, accent, r * 0.36)]
    if kind == "mask":
        band = path("M", x - r * 1.2, y + r * 0.05, "L", x + r * 1.2, y - r * 0.15)
        return [pen.line(band, accent, r * 0.62)]
    if kind == "hood":
        return [pen.rectangle(x - r * 2, y - r * 2, r * 4, r * 4, accent)]
    raise ValueError(f"unknown head marking {kind!r}")


def _collar(figure: Figure, pen: Pen) -> list[str]:
    """The collar lies on the neck, outside the skull, so it is not cut off there."""
    if figure.attributes.head != "collar":
        return []
    x, y = figure.head
    r = figure.plan.head_radius
    ring = path("M", x - r * 0.95, y + r * 0.35, "Q", x - r * 0.1, y + r * 1.55, x + r * 0.8, y + r * 0.8)
    return [pen.line(ring, figure.accent, r * 0.42, round_ends=True)]


def _eye(figure: Figure, pen: Pen) -> list[str]:
    r = figure.plan.head_radius
    x, y = figure.head[0] + r * 0.3, figure.head[1] - r * 0.12
    return [
        pen.circle(x, y, r * 0.235, _EYE_RING),
        pen.circle(x, y, r * 0.18, "#14110f"),
        pen.circle(x + r * 0.06, y - r * 0.07, r * 0.06, "#ffffff"),
    ]
