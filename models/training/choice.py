"""Choose a design by what is held out: entities that training does not show, their names told apart.

The prior is the data: with several pairs an entity, `evidence` and what is trained by gradient are measured side by
side; without, only the loss of held-out pairs is left to choose by. Shapes: N pairs, D embedding dim.
"""

from dataclasses import dataclass
from functools import partial

import torch

from models.fusion import Design, Fusion
from models.fusion.label_set import weigh_label_set
from models.training.dataset.entity_pairs import EntityPairs, ask
from models.training.dataset.pairs import TrainingPairs
from models.training.fitting.evidence import fit_evidence
from models.training.gradients.loop import Surroundings, train
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
    """The candidates in order of accuracy, best first, and the frozen encoder's accuracy beside them."""

    frozen: float
    candidates: tuple[Candidate, ...]

    @property
    def design(self) -> Design:
        return self.candidates[0].design

    @property
    def gains(self) -> bool:
        """Whether the best names more than the frozen encoder."""
        return self.candidates[0].accuracy > self.frozen

    @property
    def reason(self) -> str:
        """One sentence for a person."""
        measured = ", ".join(f"{one.design} {one.accuracy:.1f}" for one in self.candidates)
        sentence = f"design {self.design}: {measured}, frozen {self.frozen:.1f} (% of held-out images named rightly)"
        if not self.gains:
            sentence += ". Nothing beats the frozen encoder here: does each entity have several pairs, and a name?"
        return sentence


def choose(pairs: EntityPairs, k: int, seed: int = 0, told: Told = unheard) -> Choice:
    """Train what is worth a try on most of the entities, and measure it on the others.

    What is tried: `evidence` and `copy`, and the paper's layer where the data is large or the names are weak. The
    designs that are trained by gradient get a sample of the pairs and few epochs: enough to compare.

    Args:
        told: what is tried, how much of it is done, and how much there is.
    """
    sample = pairs.sample(torch.Generator().manual_seed(seed))
    order = torch.randperm(sample.num_entities, generator=torch.Generator().manual_seed(seed))
    count = max(2, round(HELD_OUT * len(order)))
    shown, held_out = sample.of_entities(order[count:]), sample.of_entities(order[:count])
    frozen = measure(held_out, None, k)
    tried: list[Design] = ["evidence", "copy"]
    if len(pairs.image) >= LARGE or frozen < WEAK:
        tried.append("faithful")
    measured = [Candidate(design, measure(held_out, _trained(design, shown, k, seed, told), k)) for design in tried]
    return Choice(frozen, tuple(sorted(measured, key=lambda one: -one.accuracy)))  # of equals, the simpler


def _trained(design: Design, shown: EntityPairs, k: int, seed: int, told: Told) -> Fusion:
    progress = partial(told, f"trying {design}")
    if design == "evidence":
        return fit_evidence(shown, fusion_config(design, shown.image.shape[1], k), seed, alone=False, told=progress)
    config = recipe(design, shown.image.shape[1], k=k, seed=seed, epochs=EPOCHS)
    return train(TrainingPairs.from_entities(shown), config, surroundings=Surroundings(progress=progress))


@torch.inference_mode()
def measure(pairs: EntityPairs, fusion: Fusion | None, k: int) -> float:
    """Zero-shot accuracy in percent among the entities, both sides refined.

    Half of each entity's pairs ask: each image on its own, and the captions' mean for the name; what they search is
    told by `ask`. Without a fusion: the frozen encoder's.
    """
    names, (images, labels) = pairs.names, pairs.questions
    if fusion is not None:
        of_names, of_images = ask(pairs, "text", k).found, ask(pairs, "image", k).found
        weights = weigh_label_set(fusion, names, *of_names)
        if weights is None:
            names, images = fusion.text(names, *of_names), fusion.image(images, *of_images)
        else:
            names = fusion.text(names, *of_names, torch.tensor(weights.text))
            images = fusion.image(images, *of_images, torch.tensor(weights.image))
    return float((images @ names.T).argmax(dim=1).eq(labels).float().mean() * 100)
