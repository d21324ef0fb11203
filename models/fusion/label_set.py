"""How far to trust the memory for one set of labels, measured on the memory itself.

The labels' neighbours are images with an answer: each belongs to the label that found it. Leaving each image out of
all evidence in turn (`left_out.py`), the labels are told apart by their names alone (weight 0), by the memory alone (a
large weight) and by anything between; the weight under which the images find their labels best is used. Names that
CLIP knows well get a small weight, names that it never met a large one, shuffled captions none. Where too many labels
have nothing in the memory the weight is 0 for all: evidence for some labels only would draw every image to those.

A label that found its caption, and beside it nothing that is of one thing, has a *single* pair: with its image left
out nothing is left to weigh by. What the names alone say of it (`names_alone.py`) says then how far to go.
Shapes: C labels, K neighbours a label, U images among them, D embedding dim.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from models.fusion.evidence import KNOWN, EvidenceFusion
from models.fusion.fusion import Fusion
from models.fusion.left_out import COPY, MOST_OF_ONE, LeftOut
from models.fusion.names_alone import NamesAlone
from models.label_set_words import FEW_UNKNOWN, MANY_UNKNOWN

WEIGHTS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.2, 1.6, 2.4, 4.0, 8.0, 16.0)
# Sharpness of the softmax, in units of one over the scores' spread: the best of them is used for each weight.
SHARPNESS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)
# The image side's weight: a multiple of the root of the text side's, and the most of it. Chosen on validation classes
# of real embeddings and the demo, with several pairs and with one: where the texts' is large, more only takes away.
_IMAGE_SHARE, _MOST_OF_IMAGES = 0.12, 0.045
# Images that bear witness for very many labels, and images times labels for fewer: with 512 of 3,000 images of 1,000
# labels the weight is 0.4 or 0.6 by chance, with 2,000 it is that of all. Ten neighbours of 1,000 labels take 140 MB.
LEAST_IMAGES, MOST_SCORES = 512, 1 << 21
_LEAST = 0.05  # of the belief in a label, and of its greatest attention: images with less bear no witness
# The power of the belief in a label by which its images bear witness: what a missing label finds is its sibling's, is
# half believed, and would show that only the memory can tell the label from the sibling.
_DOUBT = 4
# Weights, in units of the odds that the names alone are wrong: what a single pair a label is given, and the most that
# several are. Images left out ask for 0.5 to 1.3 times the odds on real embeddings, for 4 on the demo's validation
# species; where missing labels found their siblings' pairs they ask for 16 times, in vain. So do, rightly, a newcomer's
# among many labels that CLIP knows: the bound is for label sets of which a part is missing, whole from this share on.
_SINGLE, _MOST, _SOME_MISSING = 0.2, 6.0, 0.05
# Of how far captions lie apart, how far labels lie that cannot be read: 0.72 to 0.80 of the demo's CLIP are codes, 1.02
# and more the species, those that it never met included.
_UNREAD = 0.9
_SMALLEST = 0.01  # that the one part of a label set may ask for where the other asks for more


@dataclass(frozen=True)
class LabelSetWeights:
    """Weights of the evidence for one set of labels.

    Attributes:
        text, image: for the label texts, and for the images that are asked about them.
        unknown: share of the labels that have nothing in the memory, or what is not theirs.
    """

    text: float
    image: float
    unknown: float


@torch.inference_mode()
def weigh_label_set(
    fusion: Fusion,
    texts: Tensor,
    values: Tensor,
    similarities: Tensor,
    mask: Tensor,
    keys: Tensor,
    *,
    named: Tensor | None = None,
    near: Tensor | None = None,
) -> LabelSetWeights | None:
    """Choose the weights for labels that will be told apart from one another.

    Args:
        texts: (C, D) float32, unit norm, one a label.
        values: (C, K, D) float32, unit norm: the images of each label's neighbours.
        similarities: (C, K) of the neighbours' captions to the label.
        mask: (C, K) bool, True for a real neighbour.
        keys: (C, K, D) float32, unit norm: their captions, the most similar first; one a label is enough.
        named: (C,) bool, True where a caption is known to name the label; by default that is judged by `keys`.
        near: (C,) bool, True where such a caption is among the nearest; by default all are.

    Returns:
        None for a fusion that knows no such weights.
    """
    side = fusion.evidence("text")
    if side is None:
        return None
    attention = side.attend(similarities, mask)
    best = (keys[:, :1] * mask[:, :1].unsqueeze(-1)).sum(dim=1)  # (C, D)
    found, paired = _believed(side, texts, values, attention, best)
    vouching = None
    if named is not None and bool(side.paired.weight.any()):  # else `found` judges the images as well (`_from_before`)
        if _cannot_be_read(texts[named], best[named]):
            vouching = named
        elif near is not None:
            named = named & near
        found = found.masked_fill(named, 1.0)
    held = found * paired
    single = (found >= KNOWN) & (held < KNOWN)  # (C,)
    names = _of_single_pairs(texts, values, best, single, vouching)
    of_single, missing = float(single.float().mean()), float((found < KNOWN).float().mean())
    at_most = missing + names.doubtful * of_single  # of labels without anything of theirs
    trust = min(max((MANY_UNKNOWN - at_most) / (MANY_UNKNOWN - FEW_UNKNOWN), 0.0), 1.0)
    weight = 0.0
    if trust > 0 and len(texts) > 1:
        share = of_single / (1 - missing)
        most = _MOST * max(_SOME_MISSING / at_most, 1.0) if at_most > 0 else math.inf
        several = found.masked_fill(held < KNOWN, 0.0)
        several_weight = best_weight(side, texts, values, attention, several, most) if share < 1 else 0.0
        single_weight = min(_SINGLE * names.odds, WEIGHTS[-1])
        weight = trust * _between(several_weight, single_weight, share)
    return LabelSetWeights(
        weight, min(_IMAGE_SHARE * weight**0.5, _MOST_OF_IMAGES), missing + names.mixed_up * of_single
    )


def _between(several: float, single: float, share: float) -> float:
    """A weight for labels of which a share has a single pair: the geometric mean of what either asks for.

    The images of those with several speak for them alone: with the arithmetic mean few of them drown the others out.
    """
    if share in (0.0, 1.0):
        return single if share else several
    mean: float = max(several, _SMALLEST) ** (1 - share) * max(single, _SMALLEST) ** share
    return mean


def _believed(
    side: EvidenceFusion, texts: Tensor, values: Tensor, attention: Tensor, best: Tensor
) -> tuple[Tensor, Tensor]:
    """The probabilities (C,) that what each label found is its caption, and that the images beside it are one thing.

    The first as the label is worded, or as the captions are; the higher.

    Args:
        best: (C, D) the caption that each label found first, zeros where it found none.
    """
    as_asked, as_captions = (side.signs(one, best, values, attention) for one in (texts, _reworded(texts, best)))
    found = torch.maximum(side.found(as_asked), side.found(as_captions))
    merged = _without_copies(values, attention)
    paired = torch.minimum(side.paired(as_asked), side.paired(side.signs(texts, best, values, merged)))
    return found, paired.masked_fill(merged[:, 0] > MOST_OF_ONE, 0.0)


def _without_copies(values: Tensor, attention: Tensor) -> Tensor:
    """Attention (C, K) in which an image that equals a label's first counts with that: it agrees, and says nothing."""
    copies = torch.einsum("cd,ckd->ck", values[:, 0], values) > COPY
    merged = attention.masked_fill(copies, 0.0)
    merged[:, 0] = (attention * copies).sum(dim=1)
    return merged


def _cannot_be_read(texts: Tensor, captions: Tensor) -> bool:
    """Whether labels (n, D) lie closer together than the captions (n, D) that name them, as codes do.

    What an encoder reads it also tells apart. Then a caption that is far from its label, or an image that its label
    does not fit, is of another thing of that name (a Seal Beach is no seal), whatever its letters say.
    """
    apart = [1 - rows.mean(dim=0).square().sum() for rows in (texts, captions)]
    return len(texts) > 1 and bool(apart[0] < _UNREAD * apart[1])


def _of_single_pairs(texts: Tensor, values: Tensor, best: Tensor, single: Tensor, named: Tensor | None) -> NamesAlone:
    """What the names say of the images of labels with a single pair (C,), evenly where there are too many.

    Args:
        named: labels whose captions vouch for their image.
    """
    labels = torch.nonzero(single).squeeze(1)
    if not len(labels):
        return NamesAlone(0.0, 0.0, 0.0)
    labels = _evenly(labels, len(texts))
    return NamesAlone.of(values[labels, 0], labels, texts, captions=best, named=named)


def _evenly(rows: Tensor, labels: int) -> Tensor:
    """As many of some rows as bear witness among so many labels."""
    most = max(LEAST_IMAGES, MOST_SCORES // labels)
    if len(rows) <= most:
        return rows
    return rows[torch.linspace(0, len(rows) - 1, most, device=rows.device).long()]


def _reworded(texts: Tensor, best: Tensor) -> Tensor:
    """Labels (C, D) without what they all have in common beyond the captions that they found: their wording.

    *A photo of a Samba* is as near to *Samba, white* as to *Gazelle, white*, but for the words that all labels share.
    What is taken off a label is what the others say of it, so none comes nearer to a caption by its own difference;
    of few labels it is taken off in part.
    """
    beyond = (texts - best) * (best != 0).any(dim=1, keepdim=True)  # (C, D)
    shared = (beyond.sum(dim=0) - beyond) / len(texts)  # of the other C - 1 labels, and one that says nothing
    return F.normalize(texts - shared, dim=-1)


def best_weight(
    side: EvidenceFusion, texts: Tensor, values: Tensor, attention: Tensor, believed: Tensor, most: float = math.inf
) -> float:
    """The weight of `WEIGHTS` with the least cross-entropy of the left-out images, as far as the names leave room.

    Args:
        side: of the texts.
        texts: (C, D) float32, unit norm.
        values: (C, K, D) float32, unit norm, the images of each label's neighbours.
        attention: (C, K) as `EvidenceFusion.attend`.
        believed: (C,) the probability that what a label found is its own, 0 where its images shall bear no witness.
        most: of the odds that the names alone are wrong about these images.
    """
    images, labels, certainty = _witnesses(values, attention, believed)
    if len(images) < 2:
        return 0.0
    left_out = LeftOut.of(side, texts, values, attention, images, labels, certainty)
    confidence = certainty / certainty.sum()
    by_chance, losses = math.log(len(texts)), []  # where no weight does better than chance, 0 comes first
    for weight in WEIGHTS:
        scores = left_out.scores(weight)
        scores = scores / scores.std(dim=1).mean().clamp(min=1e-6)
        by_sharpness = [F.cross_entropy(factor * scores, labels, reduction="none") for factor in SHARPNESS]
        losses.append(min(by_chance, *(float(loss @ confidence) for loss in by_sharpness)))
    return min(WEIGHTS[losses.index(min(losses))], most * NamesAlone.of(images, labels, texts, certainty).odds)


def _witnesses(values: Tensor, attention: Tensor, believed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Images that stand for a label (U, D), the label (U,) of each and how certain it is (U,).

    Evenly over the labels where there are too many; the images of a label (C,) count as far as it is believed. Beyond
    that how far they agree must not count: of two that agree each is told by the other, which is what they are asked.
    """
    least = _LEAST * attention.amax(dim=1, keepdim=True)
    places = torch.nonzero((attention > least) & (believed > _LEAST).unsqueeze(1))  # (n, 2) label and neighbour
    labels, neighbours = _evenly(places, len(values)).unbind(dim=1)
    return values[labels, neighbours], labels, attention[labels, neighbours] * believed[labels] ** _DOUBT
