"""The families of indices, what each costs, and FAISS's words for them. No FAISS: pure functions.

    exact             all rows as fp16, scanned: the only one whose neighbours are exact
    ivf_sq8           lists of 8-bit codes; memory-mapped
    ivf_rabitq        lists of 1-bit codes, rotated; memory-mapped
    ivf_rabitq_fs     the same codes laid out for SIMD: faster, but read into memory

D embedding dimension, N rows of the memory.
"""

import math
import re
from dataclasses import dataclass
from typing import Final

EXACT: Final = "exact"
SQ8: Final = "ivf_sq8"
RABITQ: Final = "ivf_rabitq"
RABITQ_FS: Final = "ivf_rabitq_fs"
KINDS: Final = (EXACT, SQ8, RABITQ, RABITQ_FS)

MIN_LISTS: Final = 4
MAX_LISTS: Final = 1 << 20
ID_BYTES: Final = 8  # FAISS keeps a 64-bit row number beside each code

_FORM = re.compile(r"(?:RR(?P<rotated>\d+),(?=IVF\d*,R))?IVF(?P<lists>\d*),(?P<codes>SQ8|RaBitQ|RaBitQfs)")
_CODES: Final = {"SQ8": SQ8, "RaBitQ": RABITQ, "RaBitQfs": RABITQ_FS}
_CLASSES: Final = {
    SQ8: "IndexIVFScalarQuantizer",
    RABITQ: "IndexIVFRaBitQ",
    RABITQ_FS: "IndexIVFRaBitQFastScan",
}


@dataclass(frozen=True)
class Family:
    """One index, named as FAISS's factory does.

    Attributes:
        kind: one of `KINDS`.
        lists: of an IVF; 0 for the exact one.
        embed_dim: D.
    """

    kind: str
    lists: int
    embed_dim: int

    @property
    def factory(self) -> str:
        """What builds it: FAISS's factory string, or `exact`."""
        if self.kind == EXACT:
            return EXACT
        codes = next(word for word, kind in _CODES.items() if kind == self.kind)
        rotation = "" if self.kind == SQ8 else f"RR{self.embed_dim},"  # 1-bit codes need a random rotation
        return f"{rotation}IVF{self.lists},{codes}"

    @property
    def faiss_class(self) -> str:
        """Of a shard file."""
        return "IndexScalarQuantizer" if self.kind == EXACT else _CLASSES[self.kind]

    @property
    def is_exact(self) -> bool:
        return self.kind == EXACT

    @property
    def code_bytes(self) -> int:
        """Of one row in a shard."""
        sizes: dict[str, int] = {
            EXACT: 2 * self.embed_dim,
            SQ8: self.embed_dim,
            RABITQ: math.ceil(self.embed_dim / 8) + 8,
            RABITQ_FS: math.ceil(self.embed_dim / 8) + 16,  # as measured in memory, 1.15.1
        }
        return sizes[self.kind]

    def bytes_per_row(self, rows: int) -> int:
        """Of one modality's index, codes, row numbers and centroids together; rounded up."""
        per_row = self.code_bytes + (0 if self.is_exact else ID_BYTES)
        shared = 4 * self.embed_dim * (self.lists + (self.embed_dim if self.kind in (RABITQ, RABITQ_FS) else 0))
        return per_row + math.ceil(shared / rows)


def lists_for(rows: int) -> int:
    """How many lists suit N rows: the power of two nearest to 2·√N, with enough rows for each to be trained on."""
    wanted = 1 << round(math.log2(2 * math.sqrt(rows)))
    return max(MIN_LISTS, min(wanted, MAX_LISTS, rows // 32 or 1))


def is_factory(words: str) -> bool:
    """Whether words name a family, for some number of rows and some D."""
    return words == EXACT or _FORM.fullmatch(words) is not None


def parse_factory(words: str, *, rows: int, embed_dim: int) -> Family | None:
    """The family that words name; None if they name none.

    Args:
        words: `exact`, or FAISS's: `IVF4096,SQ8`, `RR512,IVF4096,RaBitQ`. The number of lists may be left out, and
            so may the rotation, which 1-bit codes always get.
        rows: N.
        embed_dim: D.
    """
    if words == EXACT:
        return Family(EXACT, 0, embed_dim)
    match = _FORM.fullmatch(words)
    if match is None or (match["rotated"] and int(match["rotated"]) != embed_dim):
        return None
    lists = int(match["lists"]) if match["lists"] else lists_for(rows)
    if rows < 2 or not 1 <= lists <= min(MAX_LISTS, rows):  # one row has no neighbour to measure by
        return None
    return Family(_CODES[match["codes"]], lists, embed_dim)
