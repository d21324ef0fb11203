"""The finished demo as a world to ablate on: its memory before and after the newcomers, and the quiz."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from demo.clip import tiny_clip_directory
from demo.corpus import NEWCOMERS, QUIZ
from demo.measure import COLUMNS, TRAINING_GROUPS, Quiz, names_of
from demo.species import GROUPS, Group, species_of
from demo.story import AFTER, BEFORE
from evaluation.ablations.world import Items, Part, Question, World
from evaluation.errors import EvaluationError
from evaluation.zero_shot import ZeroShotTask
from memory import Memory, list_versions
from models.encoder import Encoder
from models.training.dataset.entities import by_names


def demo_world(directory: Path) -> World:
    """Open a demo that `reco demo` has finished.

    Raises:
        EvaluationError: world_unfinished.
    """
    versions = list_versions(directory / "memory") if (directory / "memory").is_dir() else []
    if not {BEFORE, AFTER} <= set(versions) or not (directory / QUIZ).is_dir():
        raise EvaluationError(
            "world_unfinished",
            f"{directory} is no finished demo: make one with `reco demo -d {directory} --no-serve --no-table`.",
        )
    encoder = Encoder.open(str(tiny_clip_directory()))
    memory = Memory.open(directory / "memory", version=AFTER, encoder=encoder.fingerprint.record())
    captions = memory.captions()
    told = np.array(captions, dtype=object)
    items = Items(memory.rows("image"), memory.rows("text"), _entities(captions), captions=told)
    keys = memory.keys()
    later = np.array([key.startswith(f"{NEWCOMERS}/") for key in keys])
    guide = items.kept(~later)
    training = guide.kept(np.isin(guide.entity, species_numbers(*TRAINING_GROUPS)))
    quiz = Quiz(directory, encoder)
    questions = {column: _question(task, *COLUMNS[column]) for column, task in quiz.tasks.items()}
    validation = {"validation": _question(quiz.validation, "validation")}
    return World(
        name="field guide (demo)",
        about={"species": len(species_of(*GROUPS)), "items": len(items), "items added later": int(later.sum())},
        training=training,
        parts=(Part(items, later, questions),),
        choosing=training,
        validation=(Part(guide, np.zeros(len(guide), dtype=np.bool_), validation),),
    )


def _question(task: ZeroShotTask, *groups: Group) -> Question:
    return Question(task.images, task.labels, task.class_texts, species_numbers(*groups), names_of(*groups))


def species_numbers(*groups: Group) -> NDArray[np.int64]:
    """The entities of some groups' species, in the order of `names_of`."""
    return _entities(names_of(*groups))


def _entities(captions: list[str]) -> NDArray[np.int64]:
    """Which species each caption names, numbered over all species."""
    return by_names(captions, [species.name for species in species_of(*GROUPS)])
