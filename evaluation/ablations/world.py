"""What an ablation is made on: pairs to fit on, memories, and questions about images. Knows nothing of its origin.

Shapes: N items, Q queries, C classes, D embedding dim.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from evaluation.ablations.arrangement import PAPER, Arrangement, RememberedSearch
from evaluation.array_memory import ArrayMemory, SearchesNeighbours
from models.training.dataset.entities import NO_ENTITY, only_repeated
from models.training.dataset.entity_pairs import EntityPairs

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Items:
    """Image-text pairs: image and text (N, D) float32 of unit norm, and the entity (N,) that each caption names.

    Entities are numbered throughout a world; -1 is none. `captions` (N,) are what the texts say, if that is known.
    """

    image: FloatArray
    text: FloatArray
    entity: NDArray[np.int64]
    _memories: dict[Arrangement, SearchesNeighbours] = field(default_factory=dict, repr=False, compare=False)
    captions: NDArray[np.object_] | None = None

    def __len__(self) -> int:
        return len(self.entity)

    def memory(self, arrangement: Arrangement = PAPER) -> SearchesNeighbours:
        """The items as a memory; the same queries are searched once."""
        if arrangement not in self._memories:
            told = self.captions
            captions = None if told is None else lambda ids: told[ids].tolist()
            memory = ArrayMemory(self.image, self.text, captions=captions)
            self._memories[arrangement] = RememberedSearch(memory, arrangement)
        return self._memories[arrangement]

    def kept(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> "Items":
        """Some of the items, by mask or by place."""
        captions = None if self.captions is None else self.captions[rows]
        return Items(self.image[rows], self.text[rows], self.entity[rows], captions=captions)

    def joined(self, others: "Items") -> "Items":
        """These and others; captions where both have them."""
        told = self.captions, others.captions
        captions = None if told[0] is None or told[1] is None else np.concatenate([told[0], told[1]])
        return Items(
            np.concatenate([self.image, others.image]),
            np.concatenate([self.text, others.text]),
            np.concatenate([self.entity, others.entity]),
            captions=captions,
        )

    @property
    def entities(self) -> NDArray[np.int64]:
        """The entities with several items, ascending; what can be fitted on."""
        return np.unique(self.entity[only_repeated(self.entity) != NO_ENTITY])

    def pairs(self, entities: NDArray[np.int64]) -> EntityPairs:
        """Some entities as training pairs, numbered anew."""
        rows = np.isin(self.entity, entities)
        image, text = torch.from_numpy(self.image[rows]), torch.from_numpy(self.text[rows])
        return EntityPairs(image, text, torch.from_numpy(only_repeated(self.entity[rows])))


@dataclass(frozen=True)
class Question:
    """Images to be told apart: images (Q, D), the class (Q,) of each, class texts (C, D) and their entities (C,).

    `names` (C,) are what captions may call the classes, if that is known.
    """

    images: FloatArray
    labels: NDArray[np.int64]
    class_texts: FloatArray
    entity: NDArray[np.int64]
    names: Sequence[str] | None = None

    @property
    def asked(self) -> NDArray[np.int64]:
        """The entities that the images show."""
        return np.unique(self.entity[self.labels])


@dataclass(frozen=True)
class Wording:
    """Some entities' names in words of their own: the entities (n,), ascending, and a text (n, D) of each."""

    entity: NDArray[np.int64]
    text: FloatArray


@dataclass(frozen=True)
class Part:
    """A memory and what is asked of it.

    Attributes:
        items: the whole memory.
        later: (N,) bool, which of the items were added after fitting.
        questions: by column of the tables.
    """

    items: Items
    later: NDArray[np.bool_]
    questions: Mapping[str, Question]


@dataclass(frozen=True)
class World:
    """Everything that an ablation needs.

    Attributes:
        name: for tables and files.
        about: facts for results.json.
        training: what is fitted on, none of it about an entity that is asked for.
        parts: asked one by one, their images counted together; all have the same columns.
        choosing: what is fitted on while a hyperparameter is chosen.
        validation: parts that hyperparameters are chosen on; about other entities than `choosing` and than `parts`.
        noise: pairs of other things with noisy captions, to spoil a memory with; None if there are none.
        weakenable: every caption that names an entity is nothing but the name, so names can be made weak.
        wordings: other words for the names of some entities, by where they come from.
    """

    name: str
    about: dict[str, str | int]
    training: Items
    parts: tuple[Part, ...]
    choosing: Items
    validation: tuple[Part, ...]
    noise: Items | None = None
    weakenable: bool = False
    wordings: Mapping[str, Wording] = field(default_factory=dict)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the questions."""
        return tuple(self.parts[0].questions)
