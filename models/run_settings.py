"""What `--set` and `--recipe` of a training may name, known before torch is loaded. Standard library only."""

from collections.abc import Iterable, Mapping
from typing import Any

RECIPES: Mapping[str, str] = {"paper": "faithful"}
"""Recipes beside the designs' own, and the design that each trains; what they are: models/training/recipes.py."""
SETTINGS: Mapping[str, type] = {
    "epochs": int,
    "batch_size": int,
    "learning_rate": float,
    "weight_decay": float,
    "warm_up": float,
    "neighbour_dropout": float,
    "random_k": float,
    "miss": float,
    "miss_rank": int,
    "memory_share": float,
    "name_noise": float,
    "name_noise_share": float,
    "patience": int,
    "amp": bool,
    "seed": int,
    "num_candidates": int,
    "near_duplicate": float,
}
"""The fields of `TrainConfig` and of `SearchSettings` that are numbers or truth values (a test compares them)."""
MOST_SEED = 2**32 - 1
"""What every generator takes for a seed."""


def check_recipe(name: str | None) -> None:
    """Refuse the name of no recipe.

    Raises:
        ValueError: with those there are.
    """
    if name is not None and name not in RECIPES:
        raise ValueError(f"unknown recipe {name!r}: choose one of {', '.join(RECIPES)}")


def read_settings(texts: Iterable[str]) -> dict[str, Any]:
    """Read `name=value` settings, such as `["miss=0.3", "amp=true"]`; a later one of a name wins.

    Raises:
        ValueError: no `=`, an unknown name, or a value of another type; the sentence names what is known.
    """
    return dict(map(_read, texts))


def _read(text: str) -> tuple[str, Any]:
    name, separator, value = (part.strip() for part in text.partition("="))
    if not separator:
        raise ValueError(f"{text!r} is not of the form name=value")
    if name not in SETTINGS:
        raise ValueError(f"there is no setting {name!r}: choose among {', '.join(SETTINGS)}")
    kind = SETTINGS[name]
    try:
        read = {"true": True, "false": False}[value.lower()] if kind is bool else kind(value)
    except (KeyError, ValueError):
        wanted = {int: "a whole number", float: "a number", bool: "true or false"}[kind]
        raise ValueError(f"{name} is {wanted}, not {value!r}") from None
    if name == "seed" and not 0 <= read <= MOST_SEED:
        raise ValueError(f"seed is a whole number from 0 to {MOST_SEED}, not {read}")
    return name, read
