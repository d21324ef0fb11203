"""Complete training configurations; each says what it costs and what to expect.

Times: two CPU cores, this project's own measurements (docs/training.md); other machines scale with their arithmetic.
"""

from dataclasses import replace
from typing import Any

from models.fusion import Design, FusionConfig
from models.training.loop import TrainConfig


def recipe(design: Design, embed_dim: int, *, k: int = 10, seed: int = 0, **changes: Any) -> TrainConfig:
    """The recipe of a design for memories up to some 100,000 pairs, with the caller's changes.

    Args:
        design: one that is trained by gradient; `evidence` is fitted (`models.training.evidence`).
        changes: fields of `TrainConfig`; None leaves the recipe's own.
    """
    config = _RECIPES[design](fusion_config(design, embed_dim, k))
    return replace(config, seed=seed, **{name: value for name, value in changes.items() if value is not None})


def fusion_config(design: Design, embed_dim: int, k: int = 10) -> FusionConfig:
    """The size of a fusion: heads as in CLIP's own transformers, or one where those do not divide the embedding."""
    return FusionConfig(design, embed_dim, k=k, head_dim=64 if embed_dim % 64 == 0 else embed_dim)


def copy_recipe(fusion: FusionConfig) -> TrainConfig:
    """The default: residual, starts at CLIP."""
    return TrainConfig(fusion, epochs=20, learning_rate=1e-3)


def gate_recipe(fusion: FusionConfig) -> TrainConfig:
    """A few hundred parameters a side: a few hundred pairs are enough, and a high rate is needed."""
    return TrainConfig(fusion, epochs=20, learning_rate=1e-2)


def faithful_recipe(fusion: FusionConfig) -> TrainConfig:
    """The paper's layer from scratch; wants the paper's data scale, or names that CLIP hardly knows.

    Half a minute for 6,000 pairs at D = 128. Rate and draws were chosen on the demo's validation species
    (docs/training.md): there, hiding neighbours in training costs more than it protects.
    """
    return TrainConfig(fusion, epochs=12, learning_rate=2e-3, neighbour_dropout=0.0, random_k=0.0, miss=0.0)


_RECIPES = {"copy": copy_recipe, "gate": gate_recipe, "faithful": faithful_recipe}
