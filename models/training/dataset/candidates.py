"""What each training pair may retrieve: searched once, exactly, in large batches, before training.

One matrix product a block serves thousands of queries at once, on whatever device trains; what must not be found is
left out before the best are taken, so that nobody runs out of candidates because of copies. Shapes: N pairs to train
on, B of them at a time, W rows of the memory at a time, M candidates, D embedding dim.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from memory import MODALITIES, Modality, SearchableMemory
from models.training.dataset.candidate_store import Candidates, CandidateStore
from models.training.dataset.embedding_rows import EmbeddingRows, MappedRows, check_finite
from models.training.dataset.exclusion import Exclusion, SearchSettings, forbid_pairs

QUERY_BLOCK, MEMORY_BLOCK = 8192, 16_384  # 512 MB of similarities


def find_candidates(
    memory: SearchableMemory,
    ids: Tensor,
    settings: SearchSettings,
    work: Path | None = None,
    *,
    device: str = "cpu",
    report: Callable[[int, int], None] | None = None,
) -> dict[Modality, Candidates]:
    """The most similar items of each pair, in both modalities, that it may retrieve.

    Args:
        memory: where the pairs lie and where they search.
        ids: (N,) int64 of the pairs.
        work: directory where finished blocks are kept: a search that was broken off goes on there, and one that was
            finished is not done again. Without it, all is kept in RAM.
        device: where the products are computed.
        report: called with the pairs done and N after each block.

    Raises:
        ValueError: an embedding of the memory is not finite.
    """
    store = CandidateStore.open(work, memory.digest, ids, settings)
    if store.done == len(ids):
        return store.candidates
    search = _Search(
        {modality: MappedRows(memory, modality) for modality in MODALITIES},
        Exclusion.of_memory(memory, settings),
        settings,
        device,
    )
    for start in range(store.done, len(ids), QUERY_BLOCK):
        store.write(start, search.block(ids[start : start + QUERY_BLOCK]))
        if report is not None:
            report(store.done, len(ids))
    return store.candidates


@dataclass(frozen=True)
class _Search:
    """The embeddings of both modalities, and who must not find whom."""

    rows: Mapping[Modality, EmbeddingRows]
    exclusion: Exclusion
    settings: SearchSettings
    device: str

    def block(self, own: Tensor) -> dict[Modality, Candidates]:
        """Both searches of the pairs in rows `own` (B,); images go first, since they tell who is a copy."""
        copies: list[tuple[Tensor, Tensor]] = []
        return {modality: self._side(modality, own, copies) for modality in MODALITIES}

    def _side(self, modality: Modality, own: Tensor, copies: list[tuple[Tensor, Tensor]]) -> Candidates:
        rows, count = self.rows[modality], self.settings.num_candidates
        queries = rows.take(own).to(self.device)
        found = Candidates(torch.full((len(own), count), -1), torch.full((len(own), count), -torch.inf))
        for number, first in enumerate(range(0, len(rows), MEMORY_BLOCK)):
            columns = torch.arange(first, min(first + MEMORY_BLOCK, len(rows)))
            keys = rows.take(columns)
            check_finite(keys, columns, modality)
            scores = queries @ keys.to(self.device).T  # (B, W)
            self.exclusion.forbid(scores, own, first)
            if modality == "text":
                forbid_pairs(scores, *copies[number])
            best, places = scores.topk(min(count, len(columns)))
            if modality == "image":
                near = _nearest_above(scores, best[:, 0], self.settings.near_duplicate)
                copies.append(near)
                forbid_pairs(scores, *near)
                again = near[0].unique()
                best[again], places[again] = scores[again].topk(best.shape[1])
            found = _merged(found, Candidates(places.cpu() + first, best.cpu()))
        real = found.similarities.isfinite()
        return Candidates(found.rows.where(real, -1).int(), found.similarities.where(real, 0.0))


def _nearest_above(scores: Tensor, best: Tensor, limit: float) -> tuple[Tensor, Tensor]:
    """Places (P,) of query and column whose score is above a limit; `best` (B,) tells where there are any."""
    some = (best > limit).nonzero().squeeze(1)
    queries, columns = (scores[some] > limit).nonzero(as_tuple=True)
    return some[queries], columns


def _merged(one: Candidates, other: Candidates) -> Candidates:
    """The best of both, as many as `one` has: by similarity descending, then by row."""
    rows, order = torch.cat([one.rows, other.rows], dim=1).sort(dim=1)
    similarities = torch.cat([one.similarities, other.similarities], dim=1).gather(1, order)
    similarities, order = similarities.sort(dim=1, descending=True, stable=True)
    width = one.rows.shape[1]
    return Candidates(rows.gather(1, order)[:, :width], similarities[:, :width])
