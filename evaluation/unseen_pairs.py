"""What the memory is worth for entities that it does not hold: their pairs are left out, and the task asked again.

A pair is an entity's if its caption names it. Imports models (texts) and memory's types.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from evaluation.array_memory import SearchesNeighbours
from evaluation.duplicates import LeavingOut
from evaluation.figures import Section
from evaluation.tasks import EvalTask
from memory import SearchableMemory
from models.label_set_words import no_weight
from models.texts.names import NO_NAME, Names

SECTION, TITLE = "entities_without_pairs", "the same, the memory without the unseen entities' pairs"


def without_unseen_pairs(
    task: EvalTask,
    memory: SearchableMemory,
    measured: Callable[[SearchesNeighbours], list[Section]],
    unknown: Callable[[SearchesNeighbours], float | None],
) -> tuple[list[Section], str]:
    """Measure seen and unseen entities with what the memory would be before the unseen ones are added.

    Args:
        task: of entities.
        memory: whole.
        measured: the tables of the task, with a memory.
        unknown: the share of labels that a memory does not know, where it gets no weight for them.

    Returns:
        The table, or none where nothing or everything would be left out; and a sentence about what was.
    """
    ids = pairs_of_unseen(task, memory)
    if not any(task.text_names):
        return [], "The task has no class names (`class_name`), by which captions could name an unseen entity."
    if not len(ids):
        return [], "No caption of the memory names an unseen entity: there is no pair of theirs to leave out."
    if len(ids) == memory.num_items:
        return [], "Every caption of the memory names an unseen entity: nothing is left to look up without their pairs."
    left = LeavingOut(memory, ids)
    sections = [replace(section, name=SECTION, title=TITLE) for section in measured(left) if section.name == "entities"]
    told = (
        f"Without the unseen entities' pairs: {len(ids):,} of {memory.num_items:,} items are left out, whose captions "
        "name one; pairs that show one and do not name it stay."
    )
    share = unknown(left)
    return sections, told if share is None else f"{told} {no_weight(share)}"


def pairs_of_unseen(task: EvalTask, memory: SearchableMemory) -> NDArray[np.int64]:
    """The items (n,) int64, ascending, whose captions name an unseen entity, beside others or alone.

    A name that is a part of another class's longer one is not named by that.
    """
    assert task.unseen is not None, "a task of entities says which are unseen"
    try:
        names = Names(task.text_names)
    except ValueError:  # no class has a name
        return np.empty(0, dtype=np.int64)
    unseen = set(names.mentioned(task.text_names)[task.unseen].tolist()) - {NO_NAME}
    named = [item for item, found in enumerate(names.all_mentioned(memory.captions())) if found & unseen]
    ids: NDArray[np.int64] = np.setdiff1d(np.array(named, dtype=np.int64), memory.deleted_ids())
    return ids
