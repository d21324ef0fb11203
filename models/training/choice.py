"""Choose a design by what is held out: entities that training does not show, their names told apart.

The prior is the data: with several pairs an entity, `evidence` and what is trained by gradient are measured side by
side; without, only the loss of held-out pairs is left to choose by. Shapes: N pairs, D embedding dim.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from models.fusion import Design, Fusion
from models.fusion.label_set import weigh_label_set
from models.training.dataset.entity_pairs import EntityPairs, ask
from models.training.dataset.pairs import TrainingPairs
from models.training.fitting.evidence import fit_evidence
from models.training.gradients.loop import Surroundings, train
from models.training.lead import Lead, told_leads
from models.training.progress import Told, unheard
from models.training.recipes import fusion_config, recipe

HELD_OUT = 0.2
EPOCHS = 8
LARGE = 500_000  # pairs from which on the paper's layer is worth a try
WEAK = 50.0  # percent: where the frozen encoder names less than this, too


@dataclass(frozen=True)
class Candidate:
    """A design and the accuracy in percent that it reaches on the held-out entities."""

    design: Design
    accuracy: float


@dataclass(frozen=True)
class Choice:
    """The candidates in order of accuracy, the chosen first, and the frozen encoder's accuracy beside them.

    Attributes:
        asked: images that accuracies are shares of, and the entities among which each was named.
        leads: of the best over the next best and over the frozen encoder, in percent.
    """

    frozen: float
    candidates: tuple[Candidate, ...]
    asked: tuple[int, int]
    leads: tuple[Lead, ...] = ()

    @property
    def design(self) -> Design:
        return self.candidates[0].design

    @property
    def gains(self) -> bool:
        """Whether one of them names more than the frozen encoder."""
        return max(one.accuracy for one in self.candidates) > self.frozen

    @property
    def reason(self) -> str:
        """One sentence for a person."""
        measured = ", ".join(f"{one.design} {one.accuracy:.1f}" for one in self.candidates)
        images, entities = self.asked
        sentence = (
            f"design {self.design}: {measured}, frozen {self.frozen:.1f} "
            f"(% named rightly of {images:,} held-out images of {entities:,} entities)"
        )
        if self.leads:
            sentence += f"; {told_leads(self.leads, '.1f')} (± the standard error over entities)"
        if not self.gains:
            sentence += ". Nothing beats the frozen encoder here: does each entity have several pairs, and a name?"
        return sentence


def choose(
    pairs: EntityPairs,
    k: int,
    seed: int = 0,
    told: Told = unheard,
    *,
    in_all: int | None = None,
    captions_name: bool = False,
) -> Choice:
    """Train what is worth a try on most of the entities, and measure it on the others.

    What is tried: `evidence` and `copy`, and the paper's layer where the data is large or the names are weak. The
    designs that are trained by gradient get a sample of the pairs and few epochs: enough to compare. Where another is
    ahead of `evidence` within noise, it is `evidence`: that takes nothing away where it has nothing to add.

    Args:
        told: what is tried, how much of it is done, and how much there is.
        in_all: pairs there are, where `pairs` is a part of them.
        captions_name: whether captions name the entities, so that sets of labels find theirs by them.
    """
    sample = pairs.sample(torch.Generator().manual_seed(seed))
    order = torch.randperm(sample.num_entities, generator=torch.Generator().manual_seed(seed))
    count = max(2, round(HELD_OUT * len(order)))
    shown, held_out = sample.of_entities(order[count:]), sample.of_entities(order[:count])
    plain = named_rightly(held_out, None, k)
    frozen = _percent(plain)
    tried: list[Design] = ["evidence", "copy"]
    if max(len(pairs.image), in_all or 0) >= LARGE or frozen < WEAK:
        tried.append("faithful")
    named = {
        design: named_rightly(held_out, _trained(design, shown, k, seed, told), k, captions_name) for design in tried
    }
    entity = held_out.questions[1]
    best, *others = _in_order([Candidate(design, _percent(right)) for design, right in named.items()], named, entity)
    rivals = {others[0].design: named[others[0].design], "frozen": plain}
    leads = [Lead.of(name, 100 * named[best.design], 100 * right, entity) for name, right in rivals.items()]
    return Choice(frozen, (best, *others), (len(entity), held_out.num_entities), tuple(leads))


def _in_order(measured: list[Candidate], named: dict[Design, Tensor], entity: Tensor) -> list[Candidate]:
    """Best first; of equals the simpler, and `evidence` before all that are ahead of it within noise."""
    order = sorted(measured, key=lambda one: -one.accuracy)
    lead = Lead.of("evidence", named[order[0].design], named["evidence"], entity)
    return sorted(order, key=lambda one: one.design != "evidence") if lead.within_noise else order


def _trained(design: Design, shown: EntityPairs, k: int, seed: int, told: Told) -> Fusion:
    progress = partial(told, f"trying {design}")
    if design == "evidence":
        return fit_evidence(shown, fusion_config(design, shown.image.shape[1], k), seed, alone=False, told=progress)
    config = recipe(design, shown.image.shape[1], k=k, seed=seed, epochs=EPOCHS)
    return train(TrainingPairs.from_entities(shown), config, surroundings=Surroundings(progress=progress))


def measure(pairs: EntityPairs, fusion: Fusion | None, k: int, captions_name: bool = False) -> float:
    """Zero-shot accuracy in percent among the entities: the share of `named_rightly`."""
    return _percent(named_rightly(pairs, fusion, k, captions_name))


def _percent(right: Tensor) -> float:
    return float(right.mean() * 100)


@torch.inference_mode()
def named_rightly(pairs: EntityPairs, fusion: Fusion | None, k: int, captions_name: bool = False) -> Tensor:
    """Which images are named rightly among the entities, both sides refined: (Q,) 1.0 or 0.0, as `pairs.questions`.

    Half of each entity's pairs ask: each image on its own, and the captions' mean for the name; what they search is
    told by `ask`. Without a fusion: the frozen encoder's. A fusion that weighs sets of labels is asked as the service
    asks it: where captions name the entities, each finds its own, and they count alike.
    """
    names, (images, labels) = pairs.names, pairs.questions
    if fusion is not None:
        by_captions = captions_name and fusion.evidence("text") is not None
        asked = ask(pairs, "text", k, named=by_captions)
        of_names, of_images = asked.found, ask(pairs, "image", k).found
        told = None
        if by_captions:
            values, similarities, mask = of_names
            of_names = values, torch.where(mask, similarities[:, :1], similarities), mask
            told = torch.ones(len(names), dtype=torch.bool)
        weights = weigh_label_set(fusion, names, *of_names, asked.keys, named=told)
        if weights is None:
            names, images = fusion.text(names, *of_names), fusion.image(images, *of_images)
        else:
            text, image = fusion.evidence("text"), fusion.evidence("image")
            assert text is not None and image is not None, "whoever has weights has them"
            names = text(names, *of_names, torch.tensor(weights.text))
            images = image(images, *of_images, torch.tensor(weights.image))
    return (images @ names.T).argmax(dim=1).eq(labels).float()
