"""Settings of a run: what is refused, and how they are read from name=value."""

from pathlib import Path
from typing import get_type_hints

import pytest

from models.run_settings import RECIPES, SETTINGS, read_settings
from models.training.config import TrainConfig
from models.training.dataset.exclusion import SearchSettings
from models.training.recipes import NAMED, fusion_config


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("miss", 1.1),
        ("memory_share", 0.0),
        ("warm_up", -0.1),
        ("neighbour_dropout", float("nan")),
        ("batch_size", 1),
        ("epochs", 0),
        ("learning_rate", float("inf")),
        ("name_noise", -1.0),
        ("patience", -1),
    ],
)
def test_a_number_out_of_range_is_refused_by_its_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        TrainConfig(fusion_config("copy", 64), **{name: value})  # type: ignore[arg-type]


def test_settings_are_read_as_the_fields_want_them() -> None:
    read = read_settings(["miss=0.3", "batch_size = 64", "amp=true", "near_duplicate=0.9"])
    assert read == {"miss": 0.3, "batch_size": 64, "amp": True, "near_duplicate": 0.9}
    assert [type(value) for value in read.values()] == [float, int, bool, float]


def test_what_may_be_set_is_what_the_configs_have() -> None:
    """The names are known before torch is loaded, and so apart from the classes that need it."""
    hints = {name: hint for kind in (TrainConfig, SearchSettings) for name, hint in get_type_hints(kind).items()}
    assert dict(SETTINGS) == {name: hint for name, hint in hints.items() if hint in (int, float, bool)}
    assert NAMED.keys() == RECIPES.keys()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("miss", "not of the form name=value"),
        ("mis=0.3", "no setting 'mis': choose among epochs, batch_size"),
        ("fusion=copy", "no setting 'fusion'"),
        ("miss=often", "miss is a number, not 'often'"),
        ("epochs=2.5", "epochs is a whole number"),
        ("amp=1", "amp is true or false"),
    ],
)
def test_settings_that_are_none_are_refused(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        read_settings([text])


def test_every_setting_is_in_the_docs() -> None:
    text = (Path(__file__).parents[3] / "docs" / "training-at-scale.md").read_text(encoding="utf-8")
    assert not [name for name in SETTINGS if f"`{name}`" not in text]


@pytest.mark.parametrize("seed", ["-1", "4294967296"])
def test_a_seed_that_not_every_generator_takes_is_refused(seed: str) -> None:
    with pytest.raises(ValueError, match=r"from 0 to 4294967295"):
        read_settings([f"seed={seed}"])
    assert read_settings(["seed=4294967295"]) == {"seed": 4294967295}
