"""What an index is wanted to be, and the family that gives it. No FAISS: pure functions."""

from dataclasses import asdict, dataclass
from typing import Any, Final

from memory.errors import IndexOptionsInvalid
from memory.format.families import EXACT, RABITQ, SQ8, Family, is_factory, lists_for, parse_factory

EXACT_ROWS: Final = 20_000  # up to here a scan of all rows takes a millisecond, and misses nothing
SQ8_ROWS: Final = 20_000_000  # beyond, 8-bit codes of both modalities outgrow what a machine keeps in its cache
# From here on 1-bit codes find as much as 8-bit codes, as all are ranked by the rows, and are smaller and faster: their
# error falls as √D grows.
BIT_DIM: Final = 256
DEFAULT_RECALL: Final = 0.99
_FORMS: Final = "exact, IVF,SQ8, IVF,RaBitQ or IVF,RaBitQfs; a number after IVF sets how many lists, at most one a row"


@dataclass(frozen=True)
class IndexOptions:
    """What is asked of the index of a memory; kept in the memory, so that it stays so as the memory grows.

    Attributes:
        recall: share of the 10 nearest neighbours that a search is to find, after re-ranking, on held-out rows;
            the search looks at as many lists as that takes.
        max_bytes_per_pair: of index, both modalities together, mapped or in memory; the fp16 rows are not counted.
            None: no limit.
        factory: FAISS's words, in the place of all choosing (families.py).

    Raises:
        IndexOptionsInvalid: naming the option that is out of range.
    """

    recall: float = DEFAULT_RECALL
    max_bytes_per_pair: int | None = None
    factory: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.recall <= 1:
            raise IndexOptionsInvalid(f"recall is {self.recall}: give a share above 0 and up to 1, such as 0.95.")
        if self.max_bytes_per_pair is not None and self.max_bytes_per_pair < 1:
            raise IndexOptionsInvalid(f"max_bytes_per_pair is {self.max_bytes_per_pair}: give at least 1.")
        if self.factory is not None and not is_factory(self.factory):
            raise IndexOptionsInvalid(f"index factory {self.factory!r} is none: give {_FORMS}.")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def that_suit(options: IndexOptions, rows: int, embed_dim: int) -> IndexOptions:
    """The options, without what cannot be had of N rows of D numbers: a memory that shrinks must not be stuck."""
    try:
        choose_family(rows, embed_dim, options)
    except IndexOptionsInvalid:
        return IndexOptions(recall=options.recall)
    return options


def choose_family(rows: int, embed_dim: int, options: IndexOptions) -> Family:
    """The family for N rows of D numbers: by the factory if there is one, else by size within the budget.

    Raises:
        IndexOptionsInvalid: the factory names no family, or none fits the budget.
    """
    if options.factory is not None:
        family = parse_factory(options.factory, rows=rows, embed_dim=embed_dim)
        if family is None:
            raise IndexOptionsInvalid(
                f"index factory {options.factory!r} does not suit {rows:,} rows of D = {embed_dim}: give {_FORMS}."
            )
        return family
    lists, most_sq8 = lists_for(rows), SQ8_ROWS if embed_dim < BIT_DIM else 0
    by_size = [
        family
        for family, most in (
            (Family(EXACT, 0, embed_dim), EXACT_ROWS),
            (Family(SQ8, lists, embed_dim), most_sq8),
            (Family(RABITQ, lists, embed_dim), None),
        )
        if most is None or rows <= most
    ]
    limit = options.max_bytes_per_pair
    for family in by_size:
        if limit is None or 2 * family.bytes_per_row(rows) <= limit:
            return family
    least = 2 * min(family.bytes_per_row(rows) for family in by_size)
    raise IndexOptionsInvalid(
        f"no index of {rows:,} pairs of D = {embed_dim} fits {limit} bytes a pair: the smallest needs {least}, "
        "both modalities together. Raise --max-bytes-per-pair."
    )
