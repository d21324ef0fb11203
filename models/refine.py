"""The composed encoder: frozen CLIP, a memory and a fusion together give refined embeddings.

Embeddings cross its border as float32 numpy arrays, unit norm, C-contiguous. The only file of `models` that knows a
memory, and only by what `search` returns. Shapes: B queries, K neighbours, D embedding dim.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from memory import Memory, Modality, Neighbours
from models.encoder import Encoder
from models.fusion import Fusion

DEFAULT_K = 10


@dataclass(frozen=True)
class Refined:
    """Refined embeddings (B, D) float32, unit norm, and the neighbours that they came from."""

    embeddings: NDArray[np.float32]
    neighbours: Neighbours


class RetrievalEnhancedEncoder:
    """Looks a query up within its own modality and fuses the other modality of what it finds."""

    def __init__(self, encoder: Encoder, memory: Memory, fusion: Fusion | None, fusion_id: str = "") -> None:
        """Compose the parts.

        Args:
            encoder: the frozen CLIP; the memory and the fusion were made for it (both check that at load).
            fusion: None serves plain embeddings and neighbours only.
            fusion_id: `checkpoint_id` of the fusion; part of the name of the vector space.
        """
        self.encoder = encoder
        self.memory = memory
        self.fusion = None if fusion is None else fusion.to(encoder.device).eval()
        self.fusion_id = fusion_id

    @property
    def default_k(self) -> int:
        """Neighbours used when the caller does not say."""
        return DEFAULT_K if self.fusion is None else self.fusion.config.k

    @property
    def most_k(self) -> int | None:
        """The most neighbours the fusion takes; None for no limit of its own."""
        return None if self.fusion is None else self.fusion.config.most_k

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
            mask=found.mask & ~beyond,
        )

    @torch.inference_mode()
    def fuse(self, queries: NDArray[np.float32], neighbours: Neighbours, *, modality: Modality) -> NDArray[np.float32]:
        """Refined embeddings (B, D) float32, unit norm, from queries and neighbours already found.

        Raises:
            RuntimeError: if there is no fusion.
        """
        if self.fusion is None:
            raise RuntimeError("no fusion is loaded: train one with `reco train` and name it")
        parts = (queries, neighbours.values, neighbours.similarities, neighbours.mask)
        tensors = [torch.from_numpy(np.ascontiguousarray(part)).to(self.encoder.device) for part in parts]
        refined = self.fusion.side(modality)(*tensors)
        embeddings: NDArray[np.float32] = refined.float().cpu().numpy()
        return embeddings

    def refine(
        self, queries: NDArray[np.float32], *, modality: Modality, k: int | Sequence[int] | None = None
    ) -> Refined:
        """Search, then fuse; arguments as in `search`.

        Raises:
            RuntimeError: if there is no fusion.
        """
        neighbours = self.search(queries, modality=modality, k=k)
        return Refined(self.fuse(queries, neighbours, modality=modality), neighbours)
