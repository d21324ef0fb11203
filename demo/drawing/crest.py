"""Crests: feathers in the accent colour that rise from behind the crown."""

from demo.drawing.figure import Figure
from demo.drawing.geometry import Point, around, blob, path, polygon
from demo.drawing.palette import WHITE, mix
from demo.drawing.pen import Pen

_SPIKE_TIPS: tuple[Point, ...] = ((-9, -7), (-5.5, -10), (-1, -11))
_FAN: tuple[Point, ...] = ((4, 2), (4, -7), (-2, -11), (-8, -8), (-9, 0), (-3, 4))
_FAN_HEART: tuple[Point, ...] = ((2, 0), (2.4, -4), (-2, -6.5), (-5, -4), (-4, 0))
_PLUME_TIPS: tuple[Point, ...] = ((-17, 4), (-14, 9))
_TUFT: Point = (9.2, -7.2)
_TUFT_RADIUS = 2.4

# How far each crest goes, in units from the crown.
_REACH: dict[str, tuple[Point, ...]] = {
    "none": (),
    "spike": _SPIKE_TIPS,
    "fan": _FAN,
    "plume": (*_PLUME_TIPS, (-9, -3)),
    "tuft": ((_TUFT[0] + _TUFT_RADIUS, _TUFT[1]), (_TUFT[0], _TUFT[1] - _TUFT_RADIUS)),
}


def crest(figure: Figure, pen: Pen) -> list[str]:
    """The crest, to be drawn before the skull that covers its root."""
    x, y = crown = _crown(figure)
    kind, accent = figure.attributes.crest, figure.accent
    if kind == "none":
        return []
    if kind == "spike":
        return [
            pen.fill(polygon(around(crown, 1, [(-3 + i * 2, 2), tip, (1 + i * 2, 1)])), accent)
            for i, tip in enumerate(_SPIKE_TIPS)
        ]
    if kind == "fan":
        return [
            pen.fill(blob(around(crown, 1, _FAN), 0.9), accent),
            pen.fill(blob(around(crown, 1, _FAN_HEART), 0.9), mix(accent, WHITE, 0.25)),
        ]
    if kind == "plume":
        upper = path("M", x, y + 1, "q", -9, -5, -17, 3)
        lower = path("M", x, y + 2, "q", -8, -1, -14, 7)
        return [pen.line(upper, accent, 2.2, round_ends=True), pen.line(lower, accent, 1.8, round_ends=True)]
    if kind == "tuft":
        stem = path("M", x + 4, y, "q", 2, -6, 5, -7)
        ball = pen.circle(x + _TUFT[0], y + _TUFT[1], _TUFT_RADIUS, accent)
        return [pen.line(stem, accent, 1.5), ball]
    raise ValueError(f"unknown crest {kind!r}")


def crest_reach(figure: Figure) -> list[Point]:
    """Points that bound the crest."""
    return around(_crown(figure), 1, _REACH[figure.attributes.crest])


def _crown(figure: Figure) -> Point:
    r = figure.plan.head_radius
    return (figure.head[0] - r * 0.25, figure.head[1] - r * 0.8)
