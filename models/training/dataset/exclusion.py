"""What a training pair must not retrieve, because it would leak the answer.

Left out of the image search and of the text search alike, since both return whole pairs: the pair itself, items with
the same image bytes, items whose *image* is nearly the same, deleted items, and, where asked, items of the same source.
An identical caption is left out where it belongs to such a copy of the image; beside another image it is legitimate
knowledge. Shapes: N rows of the memory, B queries, W rows of the memory searched at a time.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from memory import DUPLICATE_COSINE, SearchableMemory
from models.training.dataset.groups import container, folder, number_equal
from models.training.dataset.matching import matching

Same = Literal["nothing", "source", "folder"]


@dataclass(frozen=True)
class SearchSettings:
    """How candidates are searched.

    Attributes:
        num_candidates: M, kept for each pair; the k neighbours of a step are drawn of them.
        near_duplicate: images with a greater cosine are copies; 1 or more for none.
        exclude_same: leave out items that were read from the same file or folder (`source`), or whose keys lie in the
            same folder (`folder`).

    Raises:
        ValueError: a setting is out of its range.
    """

    num_candidates: int = 64
    near_duplicate: float = DUPLICATE_COSINE
    exclude_same: Same = "nothing"

    def __post_init__(self) -> None:
        if self.num_candidates < 1:
            raise ValueError(f"num_candidates is at least 1, not {self.num_candidates}")
        if not self.near_duplicate > 0:
            raise ValueError(f"near_duplicate is a cosine above 0, not {self.near_duplicate}")
        if self.exclude_same not in get_args(Same):
            raise ValueError(f"same {self.exclude_same!r} is unknown: choose one of {', '.join(get_args(Same))}")


@dataclass(frozen=True)
class Exclusion:
    """Groups (N,) of rows that never retrieve each other, and the deleted rows (n,), which nothing retrieves."""

    groups: tuple[Tensor, ...]
    deleted: Tensor

    @classmethod
    def of_memory(cls, memory: SearchableMemory, settings: SearchSettings) -> "Exclusion":
        """What the columns of a memory say."""
        groups = [number_equal(memory.blocks("content_sha256"))]
        if settings.exclude_same == "source":
            groups.append(number_equal(memory.blocks("source"), container))
        elif settings.exclude_same == "folder":
            groups.append(number_equal(memory.blocks("key"), folder))
        return cls(tuple(map(torch.from_numpy, groups)), torch.from_numpy(memory.deleted_ids()))

    def forbid(self, scores: Tensor, own: Tensor, first: int) -> None:
        """Set what must not be found to minus infinity.

        Args:
            scores: (B, W) of the queries with the rows from `first` on; changed in place.
            own: (B,) the row of each query.
            first: row of the memory in column 0.
        """
        end = first + scores.shape[1]
        for group in self.groups:
            forbid_pairs(scores, *matching(group[own], group[first:end]))
        deleted = self.deleted[(self.deleted >= first) & (self.deleted < end)] - first
        scores.index_fill_(1, deleted.to(scores.device), -torch.inf)


def forbid_pairs(scores: Tensor, queries: Tensor, columns: Tensor) -> None:
    """Set some pairs of query (P,) and column (P,) to minus infinity, in place."""
    never = torch.tensor(-torch.inf, device=scores.device)
    scores.index_put_((queries.to(scores.device), columns.to(scores.device)), never)
