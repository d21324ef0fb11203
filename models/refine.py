"""The composed encoder: frozen CLIP, a memory and a fusion together give refined embeddings.

Embeddings cross its border as float32 numpy arrays, unit norm, C-contiguous. Of a memory it
knows what `search` returns. Shapes: B queries, K neighbours, D embedding dim.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memory import MODALITIES, Modality, Neighbours, SearchableMemory
from models.encoder import Encoder
from models.fusion import Fusion
from models.fusion.label_set import LabelSetWeights, weigh_label_set
from models.graphed import Graphed
from models.traced import Traced

DEFAULT_K = 10


@dataclass(frozen=True)
class Refined:
    """Refined embeddings (B, D) float32, unit norm, and the neighbours that they came from."""

    embeddings: NDArray[np.float32]
    neighbours: Neighbours


class RetrievalEnhancedEncoder:
    """Looks a query up within its own modality and fuses the other modality of what it finds."""

    def __init__(self, encoder: Encoder, memory: SearchableMemory, fusion: Fusion | None, fusion_id: str = "") -> None:
        """Compose the parts.

        Args:
            encoder: the frozen CLIP; the memory and the fusion were made for it (both check that at load).
            fusion: None serves plain embeddings and neighbours only; it is moved to the encoder's device, and frozen.
            fusion_id: `checkpoint_id` of the fusion; part of the name of the vector space.
        """
        self.encoder = encoder
        self.memory = memory
        self.fusion = None if fusion is None else fusion.to(encoder.device).eval().requires_grad_(False)
        self.fusion_id = fusion_id
        self._refine: dict[Modality, Callable[..., Tensor]] = {}
        if self.fusion is not None:
            alone = {modality: partial(self.fusion.refine, modality) for modality in MODALITIES}
            self._refine = {one: _from_cpu(function, torch.device(encoder.device)) for one, function in alone.items()}

    @property
    def default_k(self) -> int:
        """Neighbours used when the caller does not say."""
        return DEFAULT_K if self.fusion is None else self.fusion.config.k

    @property
    def most_k(self) -> int | None:
        """The most neighbours the fusion takes; None for no limit of its own."""
        return None if self.fusion is None else self.fusion.config.most_k

    @property
    def weighs_label_sets(self) -> bool:
        """Whether `weigh` has an answer, and `fuse` takes weights."""
        return self.fusion is not None and self.fusion.evidence("text") is not None

    @property
    def space(self) -> str:
        """A short name of the vector space: embeddings of equal `space` are comparable."""
        name = f"{self.encoder.fingerprint.id}/{self.fusion_id}"
        return hashlib.sha256(name.encode()).hexdigest()[:16]

    def search(
        self, queries: NDArray[np.float32], *, modality: Modality, k: int | Sequence[int] | None = None
    ) -> Neighbours:
        """The neighbours of each query, within its own modality.

        Args:
            queries: (B, D) float32, unit norm, of `modality`.
            k: neighbours a query, or one number for each query; the result is as wide as the largest, and the mask
                ends each row at its own.
        """
        wanted = np.broadcast_to(np.asarray(self.default_k if k is None else k), len(queries))
        found = self.memory.search(queries, int(wanted.max(initial=1)), modality=modality)
        beyond = np.arange(found.ids.shape[1]) >= wanted[:, None]  # (B, K)
        if not beyond.any():
            return found
        return Neighbours(
            ids=np.where(beyond, -1, found.ids),
            similarities=np.where(beyond, np.float32(0), found.similarities),
            values=np.where(beyond[..., None], np.float32(0), found.values),
            keys=np.where(beyond[..., None], np.float32(0), found.keys),
            mask=found.mask & ~beyond,
        )

    @torch.inference_mode()
    def fuse(
        self,
        queries: NDArray[np.float32],
        neighbours: Neighbours,
        *,
        modality: Modality,
        weights: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Refined embeddings (B, D) float32, unit norm, from queries and neighbours already found.

        Args:
            weights: (B,) float32 of the memory's evidence, as `weigh` chooses them. 0 leaves a query as it is, bit
                for bit; NaN is the trained default, which a query alone gets.

        Raises:
            RuntimeError: if there is no fusion.
            ValueError: weights, and the fusion knows none.
        """
        if self.fusion is None:
            raise RuntimeError("no fusion is loaded: train one with `reco train` and name it")
        given = _tensors(queries, neighbours)
        if weights is None:
            refined = self._refine[modality](*given)
        else:
            device = self.encoder.device
            on_device = [one.to(device) for one in given]
            refined = _fuse_weighed(self.fusion, modality, on_device, torch.from_numpy(weights).to(device))
        embeddings: NDArray[np.float32] = refined.float().cpu().numpy()
        return embeddings

    def weigh(
        self,
        class_texts: NDArray[np.float32],
        neighbours: Neighbours,
        named: NDArray[np.bool_] | None = None,
        near: NDArray[np.bool_] | None = None,
    ) -> LabelSetWeights | None:
        """How far to trust the memory for labels that will be told apart from one another.

        Args:
            class_texts: (C, D) float32, unit norm, one a label.
            neighbours: what was found for them; of the keys, the first of each is enough.
            named, near: (C,) which of them a caption names, and one of the nearest, if that is known (`LabelCaptions`).

        Returns:
            None without a fusion, and for designs that know no such weights.
        """
        if self.fusion is None:
            return None
        parts = _tensors(class_texts, neighbours)
        device = self.encoder.device
        told = {"named": named, "near": near}
        known = {name: torch.from_numpy(one).to(device) for name, one in told.items() if one is not None}
        return weigh_label_set(self.fusion, *(part.to(device) for part in parts), **known)

    def refine(
        self, queries: NDArray[np.float32], *, modality: Modality, k: int | Sequence[int] | None = None
    ) -> Refined:
        """Search, then fuse; arguments as in `search`.

        Raises:
            RuntimeError: if there is no fusion.
        """
        neighbours = self.search(queries, modality=modality, k=k)
        return Refined(self.fuse(queries, neighbours, modality=modality), neighbours)


def _tensors(queries: NDArray[np.float32], neighbours: Neighbours) -> tuple[Tensor, ...]:
    """What `Fusion.refine` takes after the modality, in its order, on the CPU."""
    parts = (queries, neighbours.values, neighbours.similarities, neighbours.mask, neighbours.keys)
    return tuple(torch.from_numpy(np.ascontiguousarray(part)) for part in parts)


def _from_cpu(function: Callable[..., Tensor], device: torch.device) -> Callable[..., Tensor]:
    """A function of tensors on a device, for tensors on the CPU; asked for as a whole where that can be."""
    if device.type == "cuda":
        return Graphed(function, device)
    if device.type == "cpu":
        return Traced(function)
    return lambda *batch: function(*(one.to(device) for one in batch))


def _fuse_weighed(fusion: Fusion, modality: Modality, given: Sequence[Tensor], weights: Tensor) -> Tensor:
    """What `_tensors` makes, each row with its own weight (B,): rows of the trained default (NaN) apart, rows of
    weight 0 not at all."""
    evidence = fusion.evidence(modality)
    if evidence is None:
        raise ValueError(f"this {fusion.config.design} fusion takes no weights")
    refined = given[0].clone()  # (B, D)
    alone = weights.isnan()
    if alone.any():
        refined[alone] = fusion.refine(modality, *(part[alone] for part in given))
    weighed = ~alone & (weights != 0)
    if weighed.any():
        *found, _ = (part[weighed] for part in given)
        refined[weighed] = evidence(*found, weight=weights[weighed])
    return refined
