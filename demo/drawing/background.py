"""What lies behind everything and over everything: sky, out-of-focus lights, darkened corners."""

from demo.drawing.pen import Pen
from demo.drawing.scene import Habitat
from demo.randomness import Dice

_LIGHTS = 9


def sky(habitat: Habitat, pen: Pen) -> list[str]:
    """The sky, from the zenith to the horizon."""
    paint = pen.vertical_gradient("sky", [(0, habitat.sky, 1), (1, habitat.horizon, 1)])
    return [pen.rectangle(0, 0, 100, 100, paint)]


def bokeh(habitat: Habitat, pen: Pen, dice: Dice) -> list[str]:
    """Soft discs in the habitat's colours, as a lens draws lights that are out of focus."""
    paints = [
        pen.radial_gradient(f"bokeh{i}", [(0, colour, 0.55), (0.72, colour, 0.38), (1, colour, 0)])
        for i, colour in enumerate(habitat.bokeh)
    ]
    return [
        pen.circle(dice.uniform(0, 100), dice.uniform(0, 100), dice.uniform(7, 22), dice.choice(paints))
        for _ in range(_LIGHTS)
    ]


def vignette(pen: Pen) -> list[str]:
    """The darkened corners of a photo, drawn over everything."""
    stops = [(0.6, "#000000", 0.0), (1.0, "#000000", 0.28)]
    return [pen.rectangle(0, 0, 100, 100, pen.radial_gradient("vignette", stops, radius=0.75))]
