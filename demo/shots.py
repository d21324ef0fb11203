"""Shots: one drawing of one bird with its caption. Keys of different sets never meet, so no picture occurs twice.

A shot is a name (key), not a file: drawing it again gives the same picture.
"""

from dataclasses import dataclass

from demo.captions import CaptionKind, caption, caption_kind
from demo.drawing import draw, rasterise, scene_of
from demo.randomness import Dice
from demo.species import Attributes, Species, nameless_bird

IMAGE_PX = 96  # what lies on disk; CLIP sees 64


@dataclass(frozen=True)
class Shot:
    """One drawing to be made: what it shows, the key of its scene, and its caption."""

    key: str
    attributes: Attributes
    caption: str

    def svg(self, size_px: int = IMAGE_PX) -> str:
        """The drawing as an SVG document."""
        return draw(self.attributes, scene_of(self.attributes, self.key), size_px)

    def png(self, size_px: int = IMAGE_PX) -> bytes:
        """The drawing as PNG bytes."""
        return rasterise(self.svg(size_px), size_px)


def species_shot(species: Species, collection: str, number: int) -> Shot:
    """A shot of a species whose caption is one of the memory's kinds: 15 % do not carry the name."""
    key = f"{collection}/{species.slug}-{number:03d}"
    kind = caption_kind(Dice("kind", key), name=0.75, both=0.10)
    return _shot(species.name, species.attributes, key, kind)


def nameless_shot(collection: str, number: int) -> Shot:
    """A shot of a bird of no species, described or barely mentioned, never named."""
    key = f"{collection}/bird-{number:05d}"
    kind = caption_kind(Dice("kind", key), name=0.0, both=0.0, description=0.70)
    return _shot("", nameless_bird(key), key, kind)


def _shot(name: str, attributes: Attributes, key: str, kind: CaptionKind) -> Shot:
    return Shot(key, attributes, caption(kind, name, attributes, scene_of(attributes, key), key))
