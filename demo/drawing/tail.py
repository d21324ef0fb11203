"""Tails: five shapes, all hung on a root inside the rear of the body."""

from collections.abc import Sequence

from demo.drawing.figure import Figure
from demo.drawing.geometry import Point, blob, path, polygon
from demo.drawing.palette import BLACK, mix
from demo.drawing.pen import Pen

# Outlines relative to the root; x points forward, so tails grow to the left.
OUTLINES: dict[str, tuple[Point, ...]] = {
    "short": ((3, -3.5), (-9, -2.5), (-9.5, 4), (3, 4.5)),
    "long": ((3, -3.5), (-24, 0.5), (-25, 5), (3, 4.5)),
    "forked": ((3, -3.5), (-20, -7), (-9, 1), (-20, 9), (3, 4.5)),
    "fan": ((4, -2), (-8, -10), (-17, -7), (-19, 1), (-17, 9), (-8, 12), (4, 4)),
    "streamer": ((3, -3), (-7, -1.5), (-7, 3), (3, 4)),
}
_LONG_TIP: tuple[Point, ...] = ((-18, 0), (-24, 0.5), (-25, 5), (-18, 5))
_FAN_RIM: tuple[Point, ...] = ((-13, -8), (-17, -6.4), (-19, 1), (-17, 8.6), (-13, 10), (-15, 1))
_STREAMER_TIPS: tuple[Point, ...] = ((-27, -4), (-27, 6))
_STREAMER_DISC = 2.3


def tail(figure: Figure, pen: Pen) -> list[str]:
    """The tail, to be drawn before the body that covers its root."""
    kind = figure.attributes.tail
    feathers = mix(figure.upper, BLACK, 0.28)
    outline = _hung(figure, OUTLINES[kind])
    shape = blob(outline, 0.8) if kind == "fan" else polygon(outline)
    elements = [pen.fill(shape, feathers)]
    if kind == "long":
        tip = polygon(_hung(figure, _LONG_TIP))
        elements.append(pen.fill(tip, mix(feathers, figure.belly, 0.45)))
    elif kind == "fan":
        rim = blob(_hung(figure, _FAN_RIM), 0.7)
        elements.append(pen.fill(rim, mix(feathers, figure.belly, 0.6)))
    elif kind == "streamer":
        root = _root(figure)
        for x, y in _hung(figure, _STREAMER_TIPS):
            wire = path("M", root + 3, 1, "Q", root - 14, y * 0.2, x, y)
            elements += [pen.line(wire, feathers, 1.7), pen.circle(x, y, _STREAMER_DISC, feathers)]
    return elements


def tail_reach(figure: Figure) -> list[Point]:
    """Points that bound the tail."""
    points = list(OUTLINES[figure.attributes.tail])
    if figure.attributes.tail == "streamer":
        for x, y in _STREAMER_TIPS:
            points += [(x - _STREAMER_DISC, y - _STREAMER_DISC), (x - _STREAMER_DISC, y + _STREAMER_DISC)]
    return _hung(figure, points)


def _root(figure: Figure) -> float:
    return -figure.plan.half_length * 0.82


def _hung(figure: Figure, points: Sequence[Point]) -> list[Point]:
    root = _root(figure)
    return [(root + x, y) for x, y in points]
