"""Pairs grouped by entity, and the queries that use will bring: images, and names that stand for an entity.

Shapes: N pairs, G entities, B queries, K neighbours, D embedding dim.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from memory import DUPLICATE_COSINE, MODALITIES, Modality, SearchableMemory
from models.training.dataset.entities import NO_ENTITY, only_repeated

MOST_PAIRS, MOST_ENTITIES = 20_000, 2_000  # more steady nothing further that is fitted here
MOST_QUERIES, MOST_PAIR_QUERIES = 2_000, 500
SAME_CAPTION = 0.999  # cosine
_MOSTLY = 0.5
_READ = 4  # times as many pairs are read as are used, since copies among them do not count
_SCORES = 1 << 24  # similarities at a time: 64 MB


@dataclass(frozen=True)
class Asked:
    """Queries (B, D) of one modality, the entity (B,) of each, and what it found.

    `rows` (B, K) are places among the pairs; values and keys (B, K, D), similarities and mask (B, K) as a fusion takes
    them.
    """

    queries: Tensor
    entity: Tensor
    rows: Tensor
    values: Tensor
    similarities: Tensor
    mask: Tensor
    keys: Tensor

    @property
    def found(self) -> tuple[Tensor, Tensor, Tensor]:
        """The last three arguments of a fusion module."""
        return self.values, self.similarities, self.mask


@dataclass(frozen=True)
class EntityPairs:
    """Pairs with the entity that each shows: image and text (N, D) float32, unit norm, entity (N,) int64 from 0.

    Every entity has at least two pairs. The first half of each *asks*: each image for itself, and the mean of the
    captions for the name, as a class prompt is a mean over templates. The rest of the pairs is the memory that answers.

    Raises:
        ValueError: if there are fewer than `least` entities, or one has a single pair.
    """

    image: Tensor
    text: Tensor
    entity: Tensor
    least: int = 8

    def __post_init__(self) -> None:
        counts = torch.bincount(self.entity)
        if len(counts) < self.least or (len(counts) and int(counts.min()) < 2):
            raise ValueError(
                f"{len(counts)} entities with at least two pairs each: the evidence design needs {self.least} or more"
            )

    @classmethod
    def from_memory(cls, memory: SearchableMemory, entity: NDArray[np.int64], seed: int = 0) -> "EntityPairs":
        """The pairs of a memory that show one of the entities with several pairs; of very many a part, at random.

        Args:
            entity: (rows,) int64 of every row of the memory, -1 for none; see `models.training.dataset.entities`.
            seed: of what is left out where there are more than `sample` may need.

        Raises:
            ValueError: if there are too few.
        """
        alive = entity.copy()
        alive[memory.deleted_ids()] = NO_ENTITY
        repeated = _thinned(only_repeated(alive), np.random.default_rng(seed))
        ids = np.flatnonzero(repeated != NO_ENTITY)
        image, text = (torch.from_numpy(memory.rows(modality, ids)) for modality in MODALITIES)
        return cls(image, text, torch.from_numpy(repeated[ids]))

    @property
    def num_entities(self) -> int:
        return int(self.entity.max()) + 1 if len(self.entity) else 0

    @property
    def asks(self) -> Tensor:
        """(N,) bool: the first half of each entity's pairs."""
        return place_in_entity(self.entity) < torch.bincount(self.entity)[self.entity] // 2

    @property
    def names(self) -> Tensor:
        """What stands for each entity's name: (G, D) unit norm."""
        asks = self.asks
        return F.normalize(means_of(self.text[asks], self.entity[asks]), dim=-1)

    @property
    def questions(self) -> tuple[Tensor, Tensor]:
        """The images that ask, at most `MOST_QUERIES`, evenly: (B, D), and their entities (B,)."""
        rows = torch.nonzero(self.asks).squeeze(1)
        rows = rows[torch.linspace(0, len(rows) - 1, min(len(rows), MOST_QUERIES)).long()]
        return self.image[rows], self.entity[rows]

    def values(self, modality: Modality) -> Tensor:
        """What queries of a modality find: (N, D) of the other one."""
        return self.text if modality == "image" else self.image

    def keys(self, modality: Modality) -> Tensor:
        """What queries of a modality are compared with: (N, D)."""
        return self.image if modality == "image" else self.text

    def copies(self, images: Tensor) -> Tensor:
        """Which of the pairs show one of some images (B, D), be it with another caption: (B, N) bool."""
        return images @ self.image.T > DUPLICATE_COSINE

    def of_entities(self, chosen: Tensor) -> "EntityPairs":
        """The pairs of some entities, numbered anew."""
        place = torch.full((self.num_entities,), -1).index_put((chosen,), torch.arange(len(chosen)))
        entity = place[self.entity]
        return self._kept(entity >= 0, entity)

    def sample(self, dice: torch.Generator) -> "EntityPairs":
        """At most `MOST_ENTITIES` entities and `MOST_PAIRS` pairs at random, without copies of an image.

        Raises:
            ValueError: if fewer than `least` entities are left without copies.
        """
        chosen = torch.randperm(self.num_entities, generator=dice)[:MOST_ENTITIES]
        few = self.of_entities(chosen.sort().values)
        order = torch.randperm(len(few.image), generator=dice)
        few = EntityPairs(few.image[order], few.text[order], few.entity[order], least=1)
        few = few._kept(place_in_entity(few.entity) < max(2, MOST_PAIRS // few.num_entities), few.entity)
        few = few.without_copies()
        if few.num_entities < self.least:
            raise ValueError(
                f"{few.num_entities} entities with two different images each, where copies of an image count once: "
                f"{self.least} or more are needed"
            )
        return few

    def without_copies(self) -> "EntityPairs":
        """An image that asks must not find itself; entities that one image is left of are left out, all if need be."""
        kept = torch.ones(len(self.image), dtype=torch.bool)
        order = torch.argsort(self.entity, stable=True)
        for rows in torch.split(order, torch.bincount(self.entity).tolist()):
            for own in torch.arange(len(rows)).split(max(1, _SCORES // len(rows))):
                alike = self.image[rows[own]] @ self.image[rows].T > DUPLICATE_COSINE
                earlier = torch.arange(len(rows)) < own.unsqueeze(1)
                kept[rows[own[(alike & earlier).any(dim=1)]]] = False
        counts = torch.bincount(self.entity[kept], minlength=self.num_entities)
        several = torch.nonzero(counts > 1).squeeze(1)
        place = torch.full((self.num_entities,), -1).index_put((several,), torch.arange(len(several)))
        entity = place[self.entity]
        return self._kept(kept & (entity >= 0), entity)

    def _kept(self, kept: Tensor, entity: Tensor) -> "EntityPairs":
        return EntityPairs(self.image[kept], self.text[kept], entity[kept], least=0)


def ask(
    pairs: EntityPairs,
    modality: Modality,
    k: int,
    *,
    hidden: bool = False,
    named: bool = False,
    of: Tensor | None = None,
) -> Asked:
    """The queries of one modality, with what they find: everything but the half of their entity that asks.

    Nor does an image find its copies, which show other entities where it has several captions.

    Args:
        pairs: what is searched.
        modality: of the queries.
        k: neighbours.
        hidden: leave the whole entity out, as if the memory had never heard of it.
        named: find the entity's own alone, as a label does whose captions name it (`models.label_captions`).
        of: the entities that ask, all by default; `entity` of the answer is a place among them.
    """
    asking = pairs if of is None else pairs.of_entities(of)
    queries, entity = asking.questions if modality == "image" else (asking.names, torch.arange(asking.num_entities))
    numbers = entity if of is None else of[entity]
    asks = pairs.asks

    def left_out(some: slice) -> Tensor:
        own = pairs.entity.unsqueeze(0) == numbers[some].unsqueeze(1)  # (B, N)
        own = ~own | asks if named else own if hidden else own & asks
        return own | pairs.copies(queries[some]) if modality == "image" else own

    return _search(pairs, modality, k, queries, entity, left_out)


def asked_word_for_word(pairs: EntityPairs, k: int) -> bool:
    """Whether most names find a caption that equals them: then nothing tells how other words for them would fare."""
    found = ask(pairs, "text", k)
    return bool((found.similarities.amax(dim=1) > SAME_CAPTION).float().mean() > _MOSTLY)


def ask_for_pair(
    pairs: EntityPairs, modality: Modality, k: int, of: Tensor | None = None, *, hidden: bool = True
) -> Asked:
    """Single images or captions, at most `MOST_PAIR_QUERIES`, with what they find but for the pair itself.

    Of the pairs that ask, those with an equal caption are left out too: they are as right; and so are copies of the
    image, whoever asks. `entity` of the answer is the row of the pair that asks; pairs of the entities `of` do, of all
    by default. Not `hidden`, they find themselves.
    """
    rows = torch.arange(len(pairs.image)) if of is None else torch.nonzero(torch.isin(pairs.entity, of)).squeeze(1)
    rows = rows[torch.linspace(0, len(rows) - 1, min(len(rows), MOST_PAIR_QUERIES)).long()]
    queries = pairs.keys(modality)[rows]
    asking = torch.zeros(len(pairs.image), dtype=torch.bool).index_fill_(0, rows, True)

    def left_out(some: slice) -> Tensor:
        if not hidden:
            return torch.zeros(1, 1, dtype=torch.bool)
        as_right = asking & (pairs.text[rows[some]] @ pairs.text.T > SAME_CAPTION)  # (B, N)
        return as_right | pairs.copies(pairs.image[rows[some]])

    return _search(pairs, modality, k, queries, rows, left_out)


def _search(
    pairs: EntityPairs,
    modality: Modality,
    k: int,
    queries: Tensor,
    entity: Tensor,
    left_out: Callable[[slice], Tensor],
) -> Asked:
    """The k nearest of all pairs but those that `left_out` (B, N) tells of some of the queries."""
    keys = pairs.keys(modality)
    step = max(1, _SCORES // len(keys))
    found = [
        (queries[some] @ keys.T).masked_fill_(left_out(some), -torch.inf).topk(min(k, len(keys)), dim=1)
        for some in (slice(start, start + step) for start in range(0, len(queries), step))
    ]
    best, rows = (torch.cat(part) for part in zip(*found, strict=True))
    mask = best.isfinite()
    values = pairs.values(modality)[rows] * mask.unsqueeze(-1)
    return Asked(queries, entity, rows, values, best.masked_fill(~mask, 0.0), mask, keys[rows])


def _thinned(entity: NDArray[np.int64], dice: np.random.Generator) -> NDArray[np.int64]:
    """At most `_READ` times the entities and pairs that are used: (rows,) int64, numbered anew, -1 for all others."""
    if np.count_nonzero(entity != NO_ENTITY) <= _READ * MOST_PAIRS:
        return entity
    number = int(entity.max()) + 1
    drawn = np.zeros(number, dtype=bool)
    drawn[dice.permutation(number)[: _READ * MOST_ENTITIES]] = True
    rows = dice.permutation(np.flatnonzero((entity != NO_ENTITY) & drawn[entity]))
    places = place_in_entity(torch.from_numpy(entity[rows])).numpy()
    rows = rows[places < max(2, _READ * MOST_PAIRS // int(drawn.sum()))]
    kept = np.full_like(entity, NO_ENTITY)
    kept[rows] = entity[rows]
    return only_repeated(kept)


def means_of(rows: Tensor, entity: Tensor) -> Tensor:
    """The mean row of each entity: (G, D), not normalised."""
    counts = torch.bincount(entity).unsqueeze(1)
    return torch.zeros(len(counts), rows.shape[1]).index_add_(0, entity, rows) / counts


def place_in_entity(entity: Tensor) -> Tensor:
    """The how-manieth pair of its entity each pair is: (N,) int64 from 0."""
    order = torch.argsort(entity, stable=True)
    counts = torch.bincount(entity)
    starts = torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    return torch.empty_like(order).index_put((order,), torch.arange(len(order)) - starts)
