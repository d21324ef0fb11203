"""The eight body plans: the proportions every part of a bird is drawn from. Imports nothing of ours."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """Proportions in SVG user units (the picture is 100 wide); lengths are half axes where they say so."""

    half_length: float
    half_depth: float
    neck: float
    head_radius: float
    leg: float
    bill_scale: float
    perched_tilt: float
    """Degrees the body turns when perched; negative lifts the head."""


PLANS: dict[str, Plan] = {
    "songbird": Plan(17, 11.5, 3, 8.6, 7, 1.0, -28),
    "wader": Plan(16, 9.5, 17, 5.8, 22, 1.5, -12),
    "duck": Plan(22, 10.5, 8, 7.4, 5, 1.1, -4),
    "raptor": Plan(20, 12, 3, 8, 7, 1.0, -48),
    "parrot": Plan(18, 10.5, 2, 9.2, 5, 1.15, -52),
    "hummingbird": Plan(13, 7, 2.5, 6.6, 3, 1.2, -36),
    "gamebird": Plan(20, 14.5, 6, 6.8, 9, 0.8, -8),
    "swift": Plan(19, 8, 1.5, 7.4, 3, 0.6, -20),
}
