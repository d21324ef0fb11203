"""The book of a build: every row is stored, was there already, or is rejected with a code. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from memory_builder.errors import TooManyRejected
from memory_builder.known_keys import ALREADY_STORED, DUPLICATE, OTHER_PAIR, REMOVED, REPEATED
from memory_builder.records import LINKED_FOLDER, Rejected

_ENOUGH_ROWS = 1000  # fewer say little about a corpus, unless they are all of it
_ADVICE = {
    "path_outside": "A table's image paths are relative to its own folder: absolute ones and those that leave it by .. "
    "or a link are refused, so put the table beside its images.",
    "member_type": "Links are not followed: copy what they lead to.",
    LINKED_FOLDER: "Links to folders are not followed: name what they lead to as a corpus itself.",
    REMOVED: "What was removed from the memory stays out; --restore-removed adds it again.",
}


class Ledger:
    """Counts of the rows so far.

    Attributes:
        added: rows stored by this build.
        present: rows that the memory held already.
        repeated: rows of the same pair as an earlier row of the corpus.
        rejected: the others, by code.
        rejected_earlier: rows that an earlier build rejected and that were not looked at again, by code.
        changed: of both, rows of another pair than the memory holds under their key.
    """

    def __init__(self, max_error_rate: float) -> None:
        self.added = 0
        self.present = 0
        self.repeated = 0
        self.rejected: Counter[str] = Counter()
        self.rejected_earlier: Counter[str] = Counter()
        self.changed = 0
        self._looked_at = 0
        self._max_error_rate = max_error_rate

    @property
    def rows(self) -> int:
        """All rows entered: nothing is lost between the columns."""
        return self.added + self.present + self.repeated + self.rejected.total() + self.rejected_earlier.total()

    def enter(self, added: int, rejected: Iterable[Rejected]) -> None:
        """Enter the rows of a unit that was looked at: those that are there already, or repeated, are good ones."""
        reasons = Counter((row.code, row.detail) for row in rejected)
        self._looked_at += added + reasons.total()
        codes = self._by_code(reasons)
        self.present += codes.pop(ALREADY_STORED, 0)
        self.rejected += codes
        self.added += added

    def enter_published(self, rows: int, rejected: Mapping[tuple[str, str], int]) -> None:
        """Enter the rows of a unit that the memory holds.

        Args:
            rows: all of the unit's.
            rejected: those that the build before this rejected, by code and detail.
        """
        codes = self._by_code(rejected)
        self.present += rows - sum(rejected.values())
        self.rejected_earlier += codes

    def exceeds(self, *, complete: bool) -> bool:
        """Whether more of the rows that were looked at are rejected than allowed; those taken out are not at fault, nor
        is a link to a folder, which is no pair.

        Rows of published units count neither way: were they good ones, a large memory would let any corpus pass.
        """
        enough = complete or self._looked_at >= _ENOUGH_ROWS
        return enough and self._refused() > self._max_error_rate * self._looked_at

    def refusal(self, where: Path) -> TooManyRejected:
        """The error that tells which codes, and what to do; `where` names the file with the rows."""
        refused = self._refused()
        share = refused / self._looked_at
        return TooManyRejected(
            f"{refused:,} of {self._looked_at:,} rows ({share:.1%}) were rejected: {self.codes()}. At most "
            f"{self._max_error_rate:.1%} are allowed. Every row and its reason is in {where}."
            f"{advice(self.rejected, self.changed)} Mend the corpus, or allow more with "
            "--max-error-rate; what is encoded is kept.",
            self.rejected,
        )

    def _by_code(self, reasons: Mapping[tuple[str, str], int]) -> Counter[str]:
        codes = Counter[str]()
        for (code, _), count in reasons.items():
            codes[code] += count
        self.changed += reasons.get((DUPLICATE, OTHER_PAIR), 0)
        self.repeated += codes.pop(REPEATED, 0)
        return codes

    def _refused(self) -> int:
        return self.rejected.total() - self.rejected[REMOVED] - self.rejected[LINKED_FOLDER]

    def codes(self) -> str:
        """The codes and their counts, most frequent first."""
        return ", ".join(f"{count:,} {code}" for code, count in self.rejected.most_common()) or "none"


def advice(rejected: Mapping[str, int], changed: int = 0) -> str:
    """What to do about the codes that stand for a misunderstanding, each a sentence with a space before it.

    Args:
        rejected: rows by code.
        changed: of these, rows of another pair than the memory holds under their key.
    """
    sentences = [sentence for code, sentence in _ADVICE.items() if rejected.get(code)]
    if changed:
        rows = "1 row" if changed == 1 else f"{changed:,} rows"
        sentences.append(
            f"Of {rows} the memory holds another image or caption under the same key: --upsert replaces it. If that "
            "came from another corpus of the same name, rename this one: keys begin with it."
        )
    if rejected.get(DUPLICATE, 0) > changed:
        sentences.append("For several captions of one image, name a key column.")
    return "".join(f" {sentence}" for sentence in sentences)
