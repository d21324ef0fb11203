"""Why a memory changes nothing: what is told agrees with what its captions hold."""

from typing import Any

import numpy as np
import pytest

from evaluation.distrust import labels_in_no_caption, unknown_without_weight, why_no_weight
from evaluation.tasks import EvalTask
from evaluation.zero_shot import ZeroShotTask
from models.fusion.label_set import LabelSetWeights

LABELS = ["wren", "rock wren", "cap 3"]
CAPTIONS = ["A photo of a Rock Wren.", "cap 3 in the snow", "a bird"]


class Captioned:
    """As much of a memory as a sentence needs."""

    num_items = len(CAPTIONS)

    def captions(self) -> list[str]:
        return CAPTIONS


def why(monkeypatch: pytest.MonkeyPatch, labels: list[str], weights: LabelSetWeights | None) -> list[str]:
    monkeypatch.setattr("evaluation.distrust.label_set_weights", lambda *_: weights)
    rows = np.eye(4, dtype=np.float32)[: len(labels)]
    task = EvalTask("birds", ZeroShotTask(rows, np.arange(len(labels)), rows), labels, [""] * len(labels))
    memory: Any = Captioned()
    fusion: Any = None
    return why_no_weight(task, memory, [unknown_without_weight(task, memory, fusion, 5)])


def test_labels_are_looked_for_as_whole_words_and_the_longest_counts() -> None:
    assert labels_in_no_caption(LABELS, CAPTIONS) == ["wren"]
    assert labels_in_no_caption(LABELS[1:], CAPTIONS) == []
    assert labels_in_no_caption(["", ""], CAPTIONS) is None


def test_of_several_fusions_it_is_told_how_many_give_no_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"no": LabelSetWeights(0.0, 0.0, 1.0), "some": LabelSetWeights(1.0, 0.1, 0.0)}
    monkeypatch.setattr("evaluation.distrust.label_set_weights", lambda _, __, fusion, *___: given[fusion])
    rows = np.eye(4, dtype=np.float32)[:3]
    task = EvalTask("birds", ZeroShotTask(rows, np.arange(3), rows), LABELS, [""] * 3)
    memory: Any = Captioned()
    fusions: Any = ["some", "no"]
    unknown = [unknown_without_weight(task, memory, fusion, 5) for fusion in fusions]
    assert why_no_weight(task, memory, unknown) == ["By 1 of 2 fusions the memory gets no weight for these labels."]


def test_what_is_told_is_what_the_captions_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = LabelSetWeights(0.0, 0.0, 1.0)
    missing = why(monkeypatch, LABELS, nothing)[0]
    assert "In no caption of it: 1 of 3 (wren)." in missing
    assert "unknown_labels 1.00" in missing, "one label of three is not the reason, and the reader should see what is"
    held = why(monkeypatch, LABELS[1:], nothing)[0]
    assert "for 100% of them the pairs it finds are not theirs" in held
    assert "captions mention every label; in words nearer to the captions' they may be found" in held
    told_apart = why(monkeypatch, LABELS[1:], LabelSetWeights(0.0, 0.0, 0.0))[0]
    assert "the pairs it finds do not tell the labels apart. Its captions mention every label." in told_apart
    assert "gets no weight" in why(monkeypatch, ["", ""], nothing)[0]
    assert why(monkeypatch, LABELS, LabelSetWeights(0.4, 0.1, 1.0)) == []
    assert why(monkeypatch, LABELS, None) == []
