"""What the weight of queries that stand alone is tried on: uses of a memory, and memories that know nothing useful.

Shapes: B queries, K neighbours, n answers, G entities that ask, D embedding dim.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from memory import Modality
from models.training.dataset.entity_pairs import SAME_CAPTION, Asked, EntityPairs, ask, ask_for_pair

_KNOWN = 0.5  # of an entity's images: an encoder that names as many knows it
_FEWEST_KNOWN, _MOST_KNOWN = 5, 0.9  # entities, and share of all: beyond, what is known is no group of its own


@dataclass(frozen=True)
class Trial:
    """Queries (B, D) against a gallery (n, D) of the other modality, with the share (B, n) that is right for each.

    Attributes:
        asked: the queries and what they find.
        gallery, right: the answers.
        by_gallery: it is the gallery's rows that look for a query, as images look for their name.
        care: what a nat of harm to one who asks weighs, beside a nat of loss.
    """

    asked: Asked
    gallery: Tensor
    right: Tensor
    by_gallery: bool = False
    care: float = 1.0


def trials(
    pairs: EntityPairs, modality: Modality, k: int, of: Tensor, dice: torch.Generator, lacking_care: float
) -> list[Trial]:
    """Everything that is tried.

    Args:
        pairs: the memory.
        modality: of the queries.
        k: neighbours.
        of: (G,) the entities that ask.
        dice: what is mixed up.
        lacking_care: the care where the memory lacks what the encoder knows.
    """
    asking = pairs.of_entities(of)
    use, absent = ask(pairs, modality, k, of=of), ask(pairs, modality, k, hidden=True, of=of)
    half = _either(use.entity % 2 == 0, absent, use)  # evidence for some labels only draws every image to those
    mixed, random = _mixed_up(use, pairs, modality, dice), _random(use, pairs, modality, dice)
    pair = _pair_trial(pairs, modality, k, of)
    named = [_named(asking, modality, one) for one in (use, mixed, absent, half, random)]
    found = [*named, pair, replace(pair, asked=_mixed_up(pair.asked, pairs, modality, dice))]
    known = _known(asking)
    if _FEWEST_KNOWN <= int(known.sum()) < _MOST_KNOWN * len(of):
        used, wrong, gone = (_among(trial, known[trial.asked.entity], known) for trial in named[:3])
        place = torch.zeros(pairs.num_entities, dtype=torch.bool).index_put((of[known],), torch.tensor(True))
        inside = place[pairs.entity[pair.asked.entity]]
        found += [used, wrong, replace(gone, care=lacking_care), _among(pair, inside, inside)]
    return found


def _named(asking: EntityPairs, modality: Modality, asked: Asked) -> Trial:
    """Images and the names of their entities; it is always the image that asks for its name."""
    images, labels = asking.questions
    belongs = F.one_hot(labels, asking.num_entities).float()  # (images, G)
    if modality == "image":
        return Trial(asked, asking.names, belongs)
    return Trial(asked, images, belongs.T, by_gallery=True)


def _pair_trial(pairs: EntityPairs, modality: Modality, k: int, of: Tensor) -> Trial:
    """Single pairs: a caption and its own image, or those of an equal caption."""
    asked = ask_for_pair(pairs, modality, k, of)
    text = pairs.text[asked.entity]  # of a pair query, the row it is of
    gallery = text if modality == "image" else pairs.image[asked.entity]
    return Trial(asked, gallery, (text @ text.T > SAME_CAPTION).float())


def _known(asking: EntityPairs) -> Tensor:
    """(G,) bool: the entities that the encoder names by itself."""
    images, labels = asking.questions
    right = (images @ asking.names.T).argmax(dim=1).eq(labels).float()
    counts = torch.bincount(labels, minlength=asking.num_entities).clamp(min=1)
    return torch.zeros(asking.num_entities).index_add_(0, labels, right) / counts >= _KNOWN


def _among(trial: Trial, queries: Tensor, answers: Tensor) -> Trial:
    """Some of the queries (B,) against the answers (n,) that belong to them.

    Of names and images, `answers` says which entities are kept, whichever of the two is the gallery.
    """
    if trial.by_gallery:  # the gallery is images: those of the kept entities, be they as many as these
        answers = trial.right[queries].sum(dim=0) > 0
    asked = Asked(*(getattr(trial.asked, part.name)[queries] for part in fields(Asked)))
    return replace(trial, asked=asked, gallery=trial.gallery[answers], right=trial.right[queries][:, answers])


def _mixed_up(asked: Asked, pairs: EntityPairs, modality: Modality, dice: torch.Generator) -> Asked:
    """As in a memory whose captions were given to other images."""
    values = pairs.values(modality)
    mixed = values[torch.randperm(len(values), generator=dice)][asked.rows]
    return replace(asked, values=mixed * asked.mask.unsqueeze(-1))


def _random(asked: Asked, pairs: EntityPairs, modality: Modality, dice: torch.Generator) -> Asked:
    """As if neighbours were drawn instead of searched."""
    rows = torch.randint(0, len(pairs.entity), asked.rows.shape, generator=dice)
    similarities = torch.einsum("bd,bkd->bk", asked.queries, pairs.keys(modality)[rows])
    similarities, order = similarities.sort(dim=1, descending=True)
    rows = rows.gather(1, order)
    values, keys = pairs.values(modality)[rows], pairs.keys(modality)[rows]
    return Asked(asked.queries, asked.entity, rows, values, similarities, torch.ones_like(asked.mask), keys)


def _either(chosen: Tensor, one: Asked, other: Asked) -> Asked:
    """Rows of `one` where `chosen` (B,), of `other` elsewhere."""

    def parts() -> Iterator[Tensor]:
        for part in fields(Asked):
            this, that = getattr(one, part.name), getattr(other, part.name)
            yield torch.where(chosen.reshape(-1, *[1] * (this.ndim - 1)), this, that)

    return Asked(*parts())
