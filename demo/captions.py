"""What a caption says of a drawing: the name, the looks, both, or only the kind of bird and where it is.

Four kinds, because real captions are like that: some name the entity, some describe it, many do neither.
"""

import re
from typing import Literal

from demo.drawing import Scene
from demo.randomness import Dice
from demo.species import Attributes

CaptionKind = Literal["name", "both", "description", "coarse"]

HABITAT_CHANCE = 0.3  # captions that name the habitat pull text neighbours towards habitats, not species

PLAN_WORDS = {
    "songbird": "songbird",
    "wader": "wading bird",
    "duck": "waterfowl",
    "raptor": "raptor",
    "parrot": "parrot",
    "hummingbird": "hummingbird",
    "gamebird": "gamebird",
    "swift": "swift",
}
HABITAT_WORDS = {
    "forest": "in the forest",
    "lake": "by a lake",
    "snow": "in the snow",
    "desert": "in the desert",
    "meadow": "in a meadow",
    "dusk": "at dusk",
    "reeds": "among the reeds",
    "shore": "on the shore",
}
POSE_WORDS = {
    "perch": ("perched on a branch", "sitting on a twig", "on a mossy branch", "resting on a bough"),
    "ground": ("standing on the ground", "walking", "foraging", "on the ground"),
    "swim": ("swimming", "floating on the water", "on calm water"),
    "fly": ("in flight", "flying", "on the wing", "taking off"),
}
NAME_TEMPLATES = (
    "a photo of a {name} {context}",
    "{name} {context}",
    "a {name} {context}",
    "a close-up of a {name} {context}",
    "{name}, {context}",
    "the {name} {context}",
    "wildlife photo: {name} {context}",
    "a {name} seen {context}",
)
# The prompts of zero-shot classification: written like the captions, without a pose or a place.
PROMPTS = (
    "a photo of a {}",
    "{}",
    "a {}",
    "a close-up of a {}",
    "the {}",
    "wildlife photo: {}",
)

_HEAD = {"cap": "cap", "stripe": "brow stripe", "mask": "mask", "hood": "hood", "collar": "collar"}
_BREAST = {"spotted": "a spotted breast", "streaked": "a streaked breast", "barred": "a barred breast"}
_WING = {"one bar": "one {} wing bar", "two bars": "two {} wing bars", "patch": "a {} wing patch"}
_BILL = {
    "cone": "a thick conical",
    "needle": "a thin needle",
    "hook": "a hooked",
    "curved": "a curved",
    "spatula": "a spoon shaped",
}
_TAIL = {
    "short": "a short tail",
    "long": "a long tail",
    "forked": "a forked tail",
    "fan": "a fan tail",
    "streamer": "tail streamers",
}


def caption(kind: CaptionKind, name: str, attributes: Attributes, scene: Scene, key: str) -> str:
    """A caption of one drawing.

    Args:
        kind: what it says; "description" and "coarse" never contain the name.
        name: the species' name (unused by the kinds without it).
        key: seeds the choice of words; the same key gives the same caption.
    """
    dice = Dice("caption", key)
    if kind == "both":
        text = f"{name}: a {_description(attributes, dice, 1, 3)}"
    elif kind == "description":
        text = f"a {_description(attributes, dice, 2, 5)}, {_context(scene, dice)}"
    elif kind == "coarse":
        colour = f"{attributes.upper} " if dice.chance(0.5) else ""
        text = f"a {colour}{PLAN_WORDS[attributes.plan]} {_context(scene, dice)}"
    else:
        context = _context(scene, dice)
        text = dice.choice(NAME_TEMPLATES).format(name=name, context=context)
    return re.sub(r"\ba (?=[aeiou])", "an ", text)


def caption_kind(dice: Dice, *, name: float, both: float, description: float = 0.0) -> CaptionKind:
    """Draw a kind by its shares; what is left over is "coarse"."""
    roll = dice.random()
    if roll < name:
        return "name"
    if roll < name + both:
        return "both"
    return "description" if roll < name + both + description else "coarse"


def _context(scene: Scene, dice: Dice) -> str:
    pose = dice.choice(POSE_WORDS[scene.pose])
    return f"{pose} {HABITAT_WORDS[scene.habitat]}" if dice.chance(HABITAT_CHANCE) else pose


def _description(attributes: Attributes, dice: Dice, fewest: int, most: int) -> str:
    """A random selection of the visible marks, in words."""
    marks = _marks(attributes)
    chosen = dice.sample(marks, min(len(marks), dice.integer(fewest, most)))
    listed = chosen[0] if len(chosen) == 1 else f"{', '.join(chosen[:-1])} and {chosen[-1]}"
    return f"{attributes.upper} {PLAN_WORDS[attributes.plan]} with {listed}"


def _marks(looks: Attributes) -> list[str]:
    marks = [
        f"a {looks.belly} belly",
        f"{_BILL[looks.bill]} {looks.bill_colour} bill",
        _TAIL[looks.tail],
    ]
    if looks.head != "plain":
        marks.append(f"a {looks.accent} {_HEAD[looks.head]}")
    if looks.crest == "plume":
        marks.append(f"{looks.accent} head plumes")
    elif looks.crest != "none":
        marks.append(f"a {looks.accent} {looks.crest} crest")
    if looks.breast == "bib":
        marks.append(f"a {looks.accent} bib")
    elif looks.breast != "plain":
        marks.append(_BREAST[looks.breast])
    if looks.wing != "plain":
        marks.append(_WING[looks.wing].format(looks.bar))
    return marks
