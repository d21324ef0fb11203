"""The book of a build: every row is stored, was there already, or is rejected with a code. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from memory_builder.errors import TooManyRejected
from memory_builder.known_keys import ALREADY_STORED, DUPLICATE, REMOVED
from memory_builder.records import Rejected

_ENOUGH_ROWS = 1000  # fewer say little about a corpus, unless they are all of it
_ADVICE = {
    DUPLICATE: "For several captions of one image, name a key column.",
    "path_outside": "A table's image paths are relative to its own folder: absolute ones and those that leave it by .. "
    "or a link are refused, so put the table beside its images.",
}


class Ledger:
    """Counts of the rows so far.

    Attributes:
        added: rows stored by this build.
        present: rows that the memory held already.
        rejected: the others, by code.
    """

    def __init__(self, max_error_rate: float) -> None:
        self.added = 0
        self.present = 0
        self.rejected: Counter[str] = Counter()
        self._max_error_rate = max_error_rate

    @property
    def rows(self) -> int:
        """All rows entered: nothing is lost between the columns."""
        return self.added + self.present + self.rejected.total()

    def enter(self, added: int, rejected: Iterable[Rejected]) -> None:
        """Enter a unit's rows."""
        codes = Counter(row.code for row in rejected)
        self.present += codes.pop(ALREADY_STORED, 0)
        self.rejected += codes
        self.added += added

    def enter_present(self, rows: int) -> None:
        """Enter the rows of a unit that a published version holds; each was stored or rejected then."""
        self.present += rows

    def exceeds(self, *, complete: bool) -> bool:
        """Whether more rows are rejected than allowed; rows that were there already, or taken out, do not count."""
        refused = self._refused()
        judged = self.added + refused
        return (complete or judged >= _ENOUGH_ROWS) and refused > self._max_error_rate * judged

    def refusal(self, where: Path) -> TooManyRejected:
        """The error that tells which codes, and what to do; `where` names the file with the rows."""
        refused = self._refused()
        judged = self.added + refused
        return TooManyRejected(
            f"{refused:,} of {judged:,} rows ({refused / judged:.1%}) were rejected: {self.codes()}. At most "
            f"{self._max_error_rate:.1%} are allowed. Every row and its reason is in {where}.{advice(self.rejected)} "
            "Mend the corpus, or allow more with --max-error-rate; what is encoded is kept.",
            self.rejected,
        )

    def _refused(self) -> int:
        return self.rejected.total() - self.rejected[REMOVED]

    def codes(self) -> str:
        """The codes and their counts, most frequent first."""
        return ", ".join(f"{code} {count:,}" for code, count in self.rejected.most_common()) or "none"


def advice(rejected: Mapping[str, int]) -> str:
    """What to do about the codes that stand for a misunderstanding, each a sentence with a space before it."""
    return "".join(f" {sentence}" for code, sentence in _ADVICE.items() if rejected.get(code))
