"""Why a memory changes nothing: the labels as a set give it no weight, and its captions say whether it holds them.

Imports models (fusion, training's entities) and memory's types.
"""

from collections.abc import Sequence

from evaluation.array_memory import SearchesNeighbours
from evaluation.label_sets import label_set_weights
from evaluation.tasks import EvalTask
from evaluation.zero_shot import ZeroShotTask
from memory import SearchableMemory
from models.fusion import Fusion
from models.label_set_words import no_weight
from models.training.dataset.entities import by_names

_MOST_READ = 1_000_000  # captions that are looked through for the sake of a sentence
_SHOWN = 5


def why_no_weight(task: EvalTask, memory: SearchableMemory, unknown: Sequence[float | None]) -> list[str]:
    """One sentence more for the reader of a zero-shot task whose every answer is the frozen encoder's; else none.

    Of several fusions, some of which give the memory a weight, it says how many do not; `unknown` is what
    `unknown_without_weight` says of each.
    """
    without = [share for share in unknown if share is not None]
    if not without:
        return []
    if len(without) < len(unknown):
        return [f"By {len(without)} of {len(unknown)} fusions the memory gets no weight for these labels."]
    sentence = no_weight(without[0])
    absent = None if memory.num_items > _MOST_READ else labels_in_no_caption(task.text_names, memory.captions())
    if absent is None:
        return [sentence]
    if absent:
        shown = ", ".join(absent[:_SHOWN]) + (", …" if len(absent) > _SHOWN else "")
        return [f"{sentence} In no caption of it: {len(absent):,} of {len(task.texts):,} ({shown})."]
    told = " Its captions mention every label"
    if without[0]:
        told += "; in words nearer to the captions' they may be found (--templates, docs/training.md)"
    return [f"{sentence}{told}."]


def weight_without_copies(whole: Sequence[float | None], left: Sequence[float | None]) -> list[str]:
    """A sentence where the memory has a weight and, without the copies of test images, none, or the reverse.

    Args:
        whole, left: what `unknown_without_weight` says of each fusion, with the copies and without.
    """
    if [one is None for one in whole] == [one is None for one in left]:
        return []
    without = [one for one in left if one is not None]
    if not without:
        return ["Without the copies the memory gets a weight."]
    if len(without) < len(left):
        return [f"Without the copies the memory gets none by {len(without)} of {len(left)} fusions."]
    return [f"Without the copies: {no_weight(without[0])}"]


def unknown_without_weight(task: EvalTask, memory: SearchesNeighbours, fusion: Fusion, k: int) -> float | None:
    """The share of labels that the memory does not know, where a zero-shot task gives it no weight; else None."""
    if not isinstance(task.task, ZeroShotTask):
        return None
    weights = label_set_weights(task.texts, memory, fusion, k, task.text_names)
    return None if weights is None or weights.text or weights.image else weights.unknown


def labels_in_no_caption(labels: Sequence[str], captions: Sequence[str]) -> list[str] | None:
    """Labels that no caption mentions as whole words; None if they have no names."""
    named = [label for label in dict.fromkeys(labels) if label]
    try:
        numbers = by_names(named, named)
    except ValueError:
        return None
    mentioned = set(by_names(captions, named).tolist())
    return [label for label, number in zip(named, numbers.tolist(), strict=True) if number not in mentioned]
