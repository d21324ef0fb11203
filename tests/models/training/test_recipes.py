"""Every recipe tells its cost and what to expect, in one paragraph."""

import pytest

from models.fusion import DESIGNS, Design
from models.training.recipes import NAMED, told


@pytest.mark.parametrize("design", DESIGNS)
def test_a_recipe_tells_its_cost_and_what_to_expect(design: Design) -> None:
    said = told(design)
    assert said.startswith(f"recipe {design}: ")
    assert "\n" not in said
    assert any(word in said.lower() for word in ("second", "minute", "hour"))
    assert "expect" in said.lower()


def test_a_recipe_by_name_tells_its_own() -> None:
    for name in NAMED:
        said = told("faithful", name)
        assert said.startswith(f"recipe {name}: ")
        assert "expected" in said.lower()
