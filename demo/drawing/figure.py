"""The figure: one bird in one pose, with all that its parts need in order to be drawn.

Local coordinates: the body's centre is the origin, x points forward, y down; the figure is tilted, scaled and
mirrored as a whole afterwards (framing.py).
"""

import math
from dataclasses import dataclass

from demo.drawing.geometry import Point
from demo.drawing.palette import PALETTE, RGB
from demo.drawing.plans import PLANS, Plan
from demo.drawing.scene import Scene
from demo.species import Attributes


@dataclass(frozen=True)
class Figure:
    """A posed bird in local coordinates."""

    attributes: Attributes
    plan: Plan
    pose: str
    tilt: float
    """Degrees the whole figure turns; negative lifts the head."""
    head: Point
    """Centre of the head."""
    upper: RGB
    belly: RGB
    accent: RGB
    bar: RGB
    bill: RGB


def figure_of(attributes: Attributes, scene: Scene) -> Figure:
    """Pose the bird as the scene says."""
    plan = PLANS[attributes.plan]
    tilt = _tilt(plan, scene)
    return Figure(
        attributes=attributes,
        plan=plan,
        pose=scene.pose,
        tilt=tilt,
        head=_head_centre(plan, scene.pose, tilt),
        upper=PALETTE[attributes.upper],
        belly=PALETTE[attributes.belly],
        accent=PALETTE[attributes.accent],
        bar=PALETTE[attributes.bar],
        bill=PALETTE[attributes.bill_colour],
    )


def _tilt(plan: Plan, scene: Scene) -> float:
    lean = scene.rotation * 0.6
    if scene.pose == "perch":
        return plan.perched_tilt + lean
    if scene.pose == "fly":
        return -6 + lean
    return plan.perched_tilt * 0.45 + lean


def _head_centre(plan: Plan, pose: str, tilt: float) -> Point:
    a, b, neck = plan.half_length, plan.half_depth, plan.neck
    if pose == "fly" and neck > 10:  # long necks are stretched out in flight
        return (a * 0.8 + neck * 0.8, -b * 0.2 - neck * 0.28)
    # About half of the tilt is taken back, so that the neck stays upright in the picture.
    angle = math.radians(-24 if pose == "fly" else -62 - tilt * 0.55)
    return (
        a * 0.72 + neck * math.cos(angle),
        -b * 0.45 + neck * math.sin(angle) - plan.head_radius * 0.35,
    )
