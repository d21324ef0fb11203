"""The quiz names its classes in the order of its tasks: a label set is looked up by its names."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from demo.measure import COLUMNS, Quiz, names_of
from demo.report import _task
from demo.species import GROUPS, Group, species_of
from evaluation.zero_shot import ZeroShotTask

NUMBER = {species.name: place for place, species in enumerate(species_of(*GROUPS))}


def told_by_number(directory: Path, encoder: Any, *groups: Group) -> ZeroShotTask:
    """A task whose class texts are the species' numbers."""
    numbers = np.array([[NUMBER[species.name]] for group in groups for species in species_of(group)], dtype=np.float32)
    return ZeroShotTask(numbers, np.arange(len(numbers)), numbers)


@pytest.mark.parametrize("column", COLUMNS)
def test_names_stand_in_the_order_of_the_class_texts(
    column: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("demo.measure.quiz_task", told_by_number)
    monkeypatch.setattr("demo.report._can_draw", lambda: False)
    quiz = Quiz(tmp_path, None)  # type: ignore[arg-type]  # nothing is encoded
    expected = quiz.tasks[column].class_texts[:, 0].tolist()
    assert [NUMBER[name] for name in names_of(*COLUMNS[column])] == expected
    assert [NUMBER[name] for name in _task(tmp_path, column, quiz).text_names] == expected
