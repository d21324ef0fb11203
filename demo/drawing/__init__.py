"""The field guide's pictures: attributes and a scene become SVG text, and SVG text becomes pixels.

Imports `demo.randomness`, `demo.species` and resvg_py; nothing else of ours.
"""

from demo.drawing.palette import PALETTE
from demo.drawing.raster import rasterise
from demo.drawing.scene import HABITATS, POSES, Scene, scene_of
from demo.drawing.svg import draw

__all__ = ["HABITATS", "PALETTE", "POSES", "Scene", "draw", "rasterise", "scene_of"]
