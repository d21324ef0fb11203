"""What the bird stands on, sits on or swims in, and a leaf that may get in the way."""

from demo.drawing.figure import Figure
from demo.drawing.framing import Placement
from demo.drawing.geometry import path
from demo.drawing.palette import BLACK, RGB, mix
from demo.drawing.pen import Pen
from demo.drawing.scene import Habitat
from demo.randomness import Dice

_BARK: RGB = (82, 62, 46)
_LEAF: RGB = (70, 120, 50)
_NEAR_LEAF: RGB = (60, 110, 50)
_FAR_WATER: RGB = (96, 140, 164)
_NEAR_WATER: RGB = (90, 134, 158)


def behind(figure: Figure, place: Placement, habitat: Habitat, pen: Pen, dice: Dice) -> list[str]:
    """The part of the setting that the bird covers: ground, branch or far water; nothing in flight."""
    if figure.pose == "ground":
        return _ground(figure, place, habitat, pen, dice)
    if figure.pose == "perch":
        return _branch(figure, place, habitat, pen, dice)
    if figure.pose == "swim":
        shade = mix(_FAR_WATER, habitat.horizon, 0.3)
        return [pen.rectangle(0, _waterline(figure, place) - 9, 100, 100, shade)]
    return []


def in_front(figure: Figure, place: Placement, pen: Pen, dice: Dice) -> list[str]:
    """The part of the setting that covers the bird: the water a swimming bird lies in, with ripples."""
    if figure.pose != "swim":
        return []
    y = _waterline(figure, place)
    surface = path("M", 0, y, "Q", 25, y - 1.6, 50, y, "T", 100, y, "V", 100, "H", 0, "Z")
    elements = [pen.fill(surface, _NEAR_WATER, 0.93)]
    for i in range(7):
        ripple_y = y + 2 + i * 4 + dice.uniform(-1, 1)
        ripple_x = place.x + dice.uniform(-22, 22) - 12
        ripple = path("M", ripple_x, ripple_y, "q", 12, -2, 24, 0)
        elements.append(pen.line(ripple, "#ffffff", 0.8, opacity=0.3))
    return elements


def near_leaf(habitat: Habitat, pen: Pen, dice: Dice) -> list[str]:
    """A leaf between the camera and the bird, at the left or the right edge."""
    x = _beside(dice, 4, 22)
    leaf = path("M", x, 104, "q", -9, -26, dice.uniform(-6, 6), -44, "q", 9, 22, 5, 44, "Z")
    return [pen.fill(leaf, mix(habitat.bokeh[1], _NEAR_LEAF, 0.4), 0.85)]


def _ground(figure: Figure, place: Placement, habitat: Habitat, pen: Pen, dice: Dice) -> list[str]:
    y = place.y + place.scale * (figure.plan.half_depth * 0.8 + figure.plan.leg)
    far, near = mix(habitat.ground, habitat.horizon, 0.35), mix(habitat.ground, BLACK, 0.15)
    paint = pen.vertical_gradient("ground", [(0, far, 1), (1, near, 1)])
    hill = path("M", 0, y - 5, "Q", 30, y - 9, 60, y - 4, "T", 100, y - 6, "V", 100, "H", 0, "Z")
    elements = [pen.fill(hill, paint)]
    for _ in range(14):
        root = dice.uniform(0, 100), dice.uniform(y - 3, 100)
        bend, tip = dice.uniform(-2, 2), (dice.uniform(-3, 3), -dice.uniform(3, 8))
        colour = mix(habitat.ground, dice.choice(habitat.bokeh), 0.4)
        elements.append(pen.line(path("M", *root, "q", bend, -3, *tip), colour, 0.8))
    elements.append(pen.ellipse(place.x, y + 1, 17 * place.scale, 2.6, BLACK, 0.22))
    return elements


def _branch(figure: Figure, place: Placement, habitat: Habitat, pen: Pen, dice: Dice) -> list[str]:
    y = place.y + place.scale * (figure.plan.half_depth * 0.75 + figure.plan.leg * 0.8)
    left, right = y + dice.uniform(-2, 7), y + dice.uniform(-9, 4)
    wood = path("M", -2, left, "Q", 40, y - 1, place.x, y + 2, "T", 102, right)
    elements = [pen.line(wood, _BARK, dice.uniform(3.4, 5.4), round_ends=True)]
    green = mix(habitat.bokeh[1], _LEAF, 0.5)
    for _ in range(dice.integer(1, 4)):
        x = _beside(dice, 2, 24)
        tip = dice.uniform(6, 11), -dice.uniform(3, 10)
        elements.append(pen.fill(path("M", x, y, "q", 4, -8, *tip, "q", -4, 9, -10, 10, "Z"), green))
    return elements


def _waterline(figure: Figure, place: Placement) -> float:
    return place.y + place.scale * figure.plan.half_depth * 0.45


def _beside(dice: Dice, low: float, high: float) -> float:
    """A place at the left edge, from `low` to `high`, or the same at the right edge."""
    distance = dice.uniform(low, high)
    return distance if dice.chance(0.5) else 100 - distance
