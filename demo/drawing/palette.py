"""The fourteen named colours of the field guide, and what one does with a colour: mix it and write it.

Imports nothing of ours.
"""

from typing import TypeAlias

RGB: TypeAlias = tuple[float, float, float]
"""Red, green and blue from 0 to 255; values outside are clamped when the colour is written."""

BLACK: RGB = (0, 0, 0)
WHITE: RGB = (255, 255, 255)

# Chosen to stay apart when the picture is only 64 pixels wide.
PALETTE: dict[str, RGB] = {
    "crimson": (190, 38, 48),
    "orange": (228, 120, 34),
    "golden": (238, 196, 58),
    "olive": (122, 128, 58),
    "emerald": (38, 140, 84),
    "teal": (34, 142, 150),
    "azure": (62, 128, 208),
    "violet": (118, 74, 160),
    "chestnut": (132, 74, 44),
    "black": (38, 38, 44),
    "grey": (132, 138, 146),
    "white": (240, 238, 230),
    "rose": (226, 132, 150),
    "buff": (214, 182, 136),
}


def mix(first: RGB, second: RGB, share: float) -> RGB:
    """The colour `share` of the way from `first` (0.0) to `second` (1.0)."""
    keep = 1.0 - share
    return (
        first[0] * keep + second[0] * share,
        first[1] * keep + second[1] * share,
        first[2] * keep + second[2] * share,
    )


def hex_colour(colour: RGB) -> str:
    """The colour as `#rrggbb`, each channel rounded and clamped to 0-255."""
    red, green, blue = (max(0, min(255, round(channel))) for channel in colour)
    return f"#{red:02x}{green:02x}{blue:02x}"
