"""Which of Milvus' index types to build, and with what. Standard library only; docs/milvus.md weighs them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from memory.errors import BackendRefused

AUTO: Final = "auto"
EXACT_UP_TO: Final = 50_000  # rows that are scanned faster than a graph over them pays for itself
# Search parameters that must not be smaller than k.
_AT_LEAST_K: Final = ("ef", "search_list")


@dataclass(frozen=True)
class IndexChoice:
    """Milvus' index type, and its parameters for building and for searching."""

    index_type: str
    params: Mapping[str, Any]
    search_params: Mapping[str, Any]

    @property
    def told(self) -> str:
        """For people: the type and what it is built and searched with."""
        parts = {**self.params, **self.search_params}
        return " ".join([self.index_type, *(f"{name}={value}" for name, value in parts.items())])

    def searching(self, k: int) -> dict[str, Any]:
        """The search parameters for k neighbours."""
        return {name: max(value, k) if name in _AT_LEAST_K else value for name, value in self.search_params.items()}


_GRAPH: Final = ({"M": 16, "efConstruction": 200}, {"ef": 128})
INDEX_TYPES: Final[Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]]] = {
    "FLAT": ({}, {}),
    "HNSW": _GRAPH,
    "HNSW_SQ": ({**_GRAPH[0], "sq_type": "SQ8", "refine": True, "refine_type": "FP16"}, {**_GRAPH[1], "refine_k": 2}),
    "IVF_FLAT": ({}, {"nprobe": 32}),
    "IVF_SQ8": ({}, {"nprobe": 32}),
    "IVF_RABITQ": ({"refine": True, "refine_type": "SQ8"}, {"nprobe": 64, "refine_k": 4}),
    "DISKANN": ({}, {"search_list": 100}),
}


def choose_index(
    name: str,
    num_items: int,
    params: Mapping[str, Any] | None = None,
    search_params: Mapping[str, Any] | None = None,
) -> IndexChoice:
    """An index type with our defaults, each overridden by what is given.

    Args:
        name: one of `INDEX_TYPES`; `auto` is FLAT for few items, else HNSW. Milvus checks that it has it.

    Raises:
        BackendRefused: the name is unknown.
    """
    index_type = name.upper()
    if name == AUTO:
        index_type = "FLAT" if num_items <= EXACT_UP_TO else "HNSW"
    if index_type not in INDEX_TYPES:
        raise BackendRefused(f"unknown index {name!r}: choose one of {AUTO}, {', '.join(INDEX_TYPES)}")
    building, searching = INDEX_TYPES[index_type]
    lists = {"nlist": max(1, min(65_536, 4 * math.isqrt(num_items)))} if index_type.startswith("IVF") else {}
    return IndexChoice(index_type, {**lists, **building, **(params or {})}, {**searching, **(search_params or {})})
