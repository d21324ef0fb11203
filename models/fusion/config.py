"""The size and kind of a fusion; saved inside every checkpoint, so that a checkpoint describes itself."""

from dataclasses import asdict, dataclass
from typing import Any

from models.designs import DESIGNS, Design


@dataclass(frozen=True)
class FusionConfig:
    """What a fusion is made of.

    Attributes:
        design: `evidence` is a one-head layer fitted in closed form, for memories with several pairs an entity;
            `faithful` is the paper's transformer layer and needs the paper's data scale; `copy` starts at CLIP and
            learns what to add; `gate` is `copy` with a handful of parameters, for tiny training sets.
        embed_dim: D, the encoder's embedding dimension; a multiple of the heads.
        k: neighbours used when the caller does not say. `faithful` has a position for each and takes no more.
        head_dim: width of an attention head; 64 as in CLIP's own transformers.
        label_sets: an `evidence` side beside each, by which sets of labels are weighed and refined; a fusion of the
            design `evidence` has it already.
    """

    design: Design
    embed_dim: int
    k: int = 10
    head_dim: int = 64
    label_sets: bool = False

    def __post_init__(self) -> None:
        if self.design not in DESIGNS:
            raise ValueError(f"unknown design {self.design!r}: choose one of {', '.join(DESIGNS)}")
        for name in ("embed_dim", "k", "head_dim"):
            told = getattr(self, name)  # a config.json may say anything
            if type(told) is not int or told < 1:
                raise ValueError(f"{name} is {told!r}, and must be a whole number of at least 1")
        if type(self.label_sets) is not bool:
            raise ValueError(f"label_sets is {self.label_sets!r}, and must be true or false")
        if self.embed_dim % self.head_dim:
            raise ValueError(f"embed_dim {self.embed_dim} is not a multiple of head_dim {self.head_dim}")
        if self.label_sets and self.design == "evidence":
            raise ValueError("the design evidence weighs label sets by its own sides")
        if self.k > 100:
            raise ValueError(f"k is {self.k}, and must be from 1 to 100")

    @property
    def most_k(self) -> int | None:
        """The most neighbours the design takes; None for no limit of its own."""
        return self.k if self.design == "faithful" else None

    @property
    def num_heads(self) -> int:
        """Attention heads."""
        return self.embed_dim // self.head_dim

    def as_dict(self) -> dict[str, Any]:
        """The config as JSON-ready data; `label_sets` only where there are, for versions that know none."""
        told = asdict(self)
        return told if self.label_sets else {name: one for name, one in told.items() if name != "label_sets"}
