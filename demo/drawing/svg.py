"""From a bird and a scene to the SVG document: the single source of every picture of the demo."""

from demo.drawing.background import bokeh, sky, vignette
from demo.drawing.bird import bird
from demo.drawing.figure import figure_of
from demo.drawing.framing import placement
from demo.drawing.pen import Pen
from demo.drawing.scene import HABITATS, Scene
from demo.drawing.setting import behind, in_front, near_leaf
from demo.randomness import Dice
from demo.species import Attributes


def draw(attributes: Attributes, scene: Scene, size_px: int = 256) -> str:
    """Draw one photo of a bird.

    Args:
        attributes: What the bird looks like.
        scene: How and where it was met (`scene_of`).
        size_px: Nominal width and height of the document; the drawing itself does not depend on it.

    Returns:
        An SVG document without fonts, scripts or outside references. Equal arguments give equal text for
        ever: the demo's corpus is defined by it, and a test holds its hashes.

    Raises:
        ValueError: `size_px` is not positive.
    """
    if size_px < 1:
        raise ValueError(f"a picture needs at least one pixel, got size_px={size_px}")
    habitat = HABITATS[scene.habitat]
    figure = figure_of(attributes, scene)
    place = placement(figure, scene)
    pen = Pen(scene.light, scene.warmth)
    # One stream each: a change of the background must not move the spots on the breast.
    background, setting, plumage = (Dice(part, scene.key) for part in ("background", "setting", "plumage"))
    elements = [
        *sky(habitat, pen),
        *bokeh(habitat, pen, background),
        *behind(figure, place, habitat, pen, setting),
        f'<g id="bird" transform="{place.transform}">',
        *bird(figure, pen, plumage),
        "</g>",
        *in_front(figure, place, pen, setting),
        *(near_leaf(habitat, pen, setting) if scene.leaf else []),
        *vignette(pen),
    ]
    frame = f'xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 100" width="{size_px}" height="{size_px}"'
    return f"<svg {frame}><defs>{''.join(pen.definitions)}</defs>{''.join(elements)}</svg>"
