"""The whole bird: its parts in the order in which they cover each other."""

from demo.drawing.bill import bill, bill_reach
from demo.drawing.body import body, body_reach, neck
from demo.drawing.crest import crest, crest_reach
from demo.drawing.figure import Figure
from demo.drawing.geometry import Point
from demo.drawing.head import head, head_reach
from demo.drawing.legs import leg_reach, legs
from demo.drawing.pen import Pen
from demo.drawing.tail import tail, tail_reach
from demo.drawing.wing import far_wing, near_wing, wing_reach
from demo.randomness import Dice


def bird(figure: Figure, pen: Pen, dice: Dice) -> list[str]:
    """All parts of the bird, rear to front, in the figure's local coordinates."""
    return [
        *tail(figure, pen),
        *far_wing(figure, pen),
        *legs(figure, pen),
        *neck(figure, pen),
        *body(figure, pen, dice),
        *crest(figure, pen),
        *bill(figure, pen),
        *head(figure, pen),
        *near_wing(figure, pen),
    ]


def reach(figure: Figure) -> list[Point]:
    """Points that bound the bird, in the figure's local coordinates."""
    return [
        *tail_reach(figure),
        *wing_reach(figure),
        *leg_reach(figure),
        *body_reach(figure),
        *crest_reach(figure),
        *bill_reach(figure),
        *head_reach(figure),
    ]
