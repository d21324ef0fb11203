"""A world whose labels are in other words than its captions, as prompts are: texts of the same names from elsewhere.

Shapes: n names of a wording, D embedding dim.
"""

from dataclasses import replace

import numpy as np

from evaluation.ablations.weak_names import with_weak_names
from evaluation.ablations.world import Part, Question, Wording, World


def with_other_words(world: World, sigma: float, seed: int) -> World:
    """The world with a column for each wording: the images of the entities that it names, among its texts for them.

    Args:
        world: with wordings.
        sigma, seed: of `with_weak_names`; the noise of an entity is the same for its captions and its labels.
    """
    asked = {name: _asked(world, wording) for name, wording in world.wordings.items()}
    columns = {f"{len(wording.entity)} labels of {name}": wording for name, wording in asked.items()}
    both = replace(world, parts=tuple(_with_columns(part, columns) for part in world.parts))
    weak = with_weak_names(both, sigma, seed)
    return replace(weak, parts=tuple(_only(part, list(columns)) for part in weak.parts))


def _asked(world: World, wording: Wording) -> Wording:
    """The names of a wording whose images are asked about, whatever the part."""
    shown = [question.asked for part in world.parts for question in part.questions.values()]
    kept = np.isin(wording.entity, np.unique(np.concatenate(shown)))
    return Wording(wording.entity[kept], wording.text[kept])


def _with_columns(part: Part, columns: dict[str, Wording]) -> Part:
    whole = max(part.questions.values(), key=lambda question: len(question.entity))
    entity = whole.entity[whole.labels]  # of each image
    added = {}
    for name, wording in columns.items():
        shown = np.isin(entity, wording.entity)
        labels = np.searchsorted(wording.entity, entity[shown])
        added[name] = Question(whole.images[shown], labels, wording.text, wording.entity)
    return replace(part, questions={**part.questions, **added})


def _only(part: Part, columns: list[str]) -> Part:
    return replace(part, questions={name: part.questions[name] for name in columns})
