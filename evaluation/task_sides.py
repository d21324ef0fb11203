"""Both sides of a task refined as the service refines them: a set of labels is weighed as a set, as `/classify` does;
the captions and images of a retrieval stand alone, as on the embed routes."""

from collections.abc import Sequence

from evaluation.array_memory import SearchesNeighbours
from evaluation.label_sets import label_set_sides_at
from evaluation.refinement import Sides, refined_sides_at
from evaluation.tasks import EvalTask
from evaluation.zero_shot import ZeroShotTask
from models.fusion import Fusion


def task_sides_at(task: EvalTask, memory: SearchesNeighbours, fusion: Fusion, ks: Sequence[int]) -> list[Sides]:
    """Refine a task for several k, searched once.

    Args:
        task: what is asked.
        memory: searched within each side's own modality.
        fusion: on the CPU, in evaluation mode.
        ks: neighbours a query.
    """
    if isinstance(task.task, ZeroShotTask):
        return label_set_sides_at(task.task.images, task.texts, memory, fusion, ks, task.text_names)
    return refined_sides_at(task.task.images, task.texts, memory, fusion, ks)
