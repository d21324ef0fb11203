"""`reco train`: what is computed in seconds: the design `evidence`, and what weighs labels beside another design."""

from functools import partial
from typing import TYPE_CHECKING, Any

from reco.console import Bars, say
from reco.counted import counted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from memory import SearchableMemory
    from models.fusion import Fusion
    from models.training.dataset.entity_pairs import EntityPairs


def fit_and_measure(
    pairs: "EntityPairs", embed_dim: int, k: int, seed: int, *, captions_name: bool
) -> "tuple[Fusion, dict[str, Any]]":
    """The fusion, and what is written of it into the checkpoint; how well it names is told."""
    import torch

    from models.label_set_words import RULE
    from models.training.choice import measure
    from models.training.dataset.entity_pairs import asked_word_for_word
    from models.training.fitting.evidence import fit_evidence
    from models.training.recipes import fusion_config

    # What was fitted: of copies one counts, or an image that asks would find itself, and no more than are needed.
    used = pairs.sample(torch.Generator().manual_seed(seed))
    with Bars() as bars:
        told = partial(bars.update, "computing the fusion")
        fusion = fit_evidence(pairs, fusion_config("evidence", embed_dim, k), seed, told=told)
        bars.update("measuring it", 0, 3)
        frozen, refined = measure(used, None, k), measure(used, fusion, k, captions_name)
        bars.update("measuring it", 2, 3)
        verbatim = asked_word_for_word(used, k)
        bars.update("measuring it", 3, 3)
    how = "named by their captions word for word" if verbatim else "named from fresh prompts"
    asked = counted(len(used.questions[1]), "image")
    say(f"images that it was computed from, {how}: frozen {frozen:.1f} %, refined {refined:.1f} % of {asked}")
    say("new images may gain less: reco eval tells.", style="dim")
    say(f"{RULE}; reco eval and /classify tell their share (unknown_labels).", style="dim")
    return fusion, {"pairs": len(used.image), "entities": used.num_entities, "seed": seed}


def with_label_sets(fusion: "Fusion", memory: "SearchableMemory", ids: "NDArray[np.int64]", seed: int) -> "Fusion":
    """A fusion that was trained on single pairs, with what weighs sets of labels beside it."""
    import numpy as np
    import torch

    from memory import MODALITIES
    from models.label_set_words import RULE
    from models.training.dataset.entity_pairs import MOST_PAIRS
    from models.training.fitting.single_pairs import with_label_sets as fit_beside

    if len(ids) > MOST_PAIRS:
        ids = np.sort(np.random.default_rng(seed).choice(ids, MOST_PAIRS, replace=False))
    image, text = (torch.from_numpy(memory.rows(modality, ids)) for modality in MODALITIES)
    with Bars() as bars:
        bars.update("computing what weighs labels", 0, 1)
        weighed = fit_beside(fusion, image, text, seed)
        bars.update("computing what weighs labels", 1, 1)
    say(f"beside it, computed from {counted(len(ids), 'pair')}: how far the memory is trusted for a set of labels")
    say(f"{RULE}; reco eval and /classify tell their share (unknown_labels).", style="dim")
    return weighed
