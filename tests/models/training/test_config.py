"""Settings of a run: what is refused, and how they are read from name=value."""

from pathlib import Path

import pytest

from models.training.config import TrainConfig, read_settings
from models.training.dataset.exclusion import SearchSettings
from models.training.recipes import fusion_config


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
    read = read_settings(["miss=0.3", "batch_size = 64", "amp=true"], TrainConfig)
    assert read == [{"miss": 0.3, "batch_size": 64, "amp": True}]
    both = read_settings(["near_duplicate=0.9", "miss=0"], TrainConfig, SearchSettings)
    assert both == [{"miss": 0.0}, {"near_duplicate": 0.9}]


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
        read_settings([text], TrainConfig)


def test_every_setting_is_in_the_docs() -> None:
    text = (Path(__file__).parents[3] / "docs" / "training-at-scale.md").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="choose among") as told:
        read_settings(["?=1"], TrainConfig, SearchSettings)
    missing = [name for name in str(told.value).partition("choose among ")[2].split(", ") if f"`{name}`" not in text]
    assert not missing
