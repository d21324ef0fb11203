"""The scene of one photo: everything in the picture that is not the species."""

from dataclasses import dataclass

from demo.drawing.palette import RGB
from demo.randomness import Dice
from demo.species import Attributes


@dataclass(frozen=True)
class Habitat:
    """Colours of a place: the sky above, the sky at the horizon, the ground, the blurred background."""

    sky: RGB
    horizon: RGB
    ground: RGB
    bokeh: tuple[RGB, RGB, RGB]


HABITATS: dict[str, Habitat] = {
    "forest": Habitat((74, 104, 70), (150, 176, 116), (60, 78, 44), ((176, 202, 120), (60, 98, 58), (214, 222, 150))),
    "lake": Habitat(
        (150, 188, 214), (206, 222, 224), (84, 132, 156), ((232, 240, 240), (120, 164, 182), (96, 140, 120))
    ),
    "snow": Habitat(
        (186, 204, 224), (232, 236, 242), (226, 232, 240), ((255, 255, 255), (150, 170, 190), (200, 214, 232))
    ),
    "desert": Habitat(
        (168, 202, 222), (240, 222, 180), (210, 170, 110), ((248, 232, 190), (190, 150, 96), (224, 190, 140))
    ),
    "meadow": Habitat(
        (160, 204, 226), (216, 228, 170), (112, 150, 66), ((240, 220, 110), (220, 150, 180), (150, 186, 90))
    ),
    "dusk": Habitat((92, 74, 120), (240, 160, 110), (58, 48, 66), ((255, 206, 140), (180, 96, 110), (110, 80, 130))),
    "reeds": Habitat(
        (176, 190, 170), (214, 206, 160), (120, 122, 70), ((196, 188, 120), (110, 120, 70), (226, 220, 180))
    ),
    "shore": Habitat(
        (140, 186, 216), (222, 226, 220), (206, 190, 156), ((246, 246, 240), (150, 180, 196), (224, 204, 168))
    ),
}

WATER_HABITATS = ("lake", "shore", "dusk", "snow")

# A pose named twice is drawn twice as often.
POSES: dict[str, tuple[str, ...]] = {
    "songbird": ("perch", "perch", "ground", "fly"),
    "wader": ("ground", "ground", "fly"),
    "duck": ("swim", "swim", "ground", "fly"),
    "raptor": ("perch", "perch", "fly"),
    "parrot": ("perch", "perch", "fly"),
    "hummingbird": ("perch", "fly", "fly"),
    "gamebird": ("ground", "ground", "perch"),
    "swift": ("fly", "fly", "perch"),
}


@dataclass(frozen=True)
class Scene:
    """What the photographer met: pose and place, framing, light, and the key all details are drawn from."""

    pose: str
    habitat: str
    flip: bool
    scale: float
    dx: float
    dy: float
    rotation: float
    """Degrees the bird leans beyond its usual tilt."""
    warmth: float
    light: float
    leaf: bool
    key: str


def scene_of(attributes: Attributes, key: str) -> Scene:
    """The scene named by `key`, for a bird that can take the poses of its body plan.

    Args:
        attributes: The bird; only its body plan matters here.
        key: Any text. Equal keys give equal scenes for ever.
    """
    dice = Dice("scene", key)
    pose = dice.choice(POSES[attributes.plan])
    return Scene(
        pose=pose,
        habitat=dice.choice(WATER_HABITATS if pose == "swim" else tuple(HABITATS)),
        flip=dice.chance(0.5),
        scale=dice.uniform(0.82, 1.16),
        dx=dice.uniform(-7, 7),
        dy=dice.uniform(-5, 5),
        rotation=dice.uniform(-9, 9),
        warmth=dice.uniform(-0.12, 0.12),
        light=dice.uniform(0.84, 1.12),
        leaf=dice.chance(0.22),
        key=key,
    )
