"""The books of a build: what of the finished units enters the memory, what it replaces, and what is rejected."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from memory import UnitRecord, key_hash
from memory.format.work_files import REJECTED
from memory_builder.errors import NothingUsable
from memory_builder.known_keys import ALREADY_STORED
from memory_builder.planning.plan import Unit
from memory_builder.planning.previous import Previous
from memory_builder.reporting.ledger import Ledger, advice
from memory_builder.reporting.rejections import RejectedPiece, Rejections
from memory_builder.units.admission import Admission
from memory_builder.units.segmenting import FinishedUnit
from memory_builder.units.store import UnitStore


class Books:
    """The units that were entered, in the plan's order.

    Attributes:
        ledger: every row counted.
        finished: the units, and what of each is stored.
        replaced: ids of the rows whose place stored ones take.
        removed: hashes of the keys that are out of the memory after all this.
    """

    def __init__(self, root: Path, store: UnitStore, previous: Previous, max_error_rate: float) -> None:
        self.ledger = Ledger(max_error_rate)
        self.finished: list[FinishedUnit] = []
        self.replaced: list[int] = []
        self.removed = previous.removed
        self._rejections = Rejections(root / REJECTED)
        self._planned: Sequence[Unit] = ()
        self._entered: list[Unit] = []  # the finished ones
        self._store = store
        self._previous = previous
        self._admission = Admission()

    def begin(self, units: Sequence[Unit]) -> None:
        """Take note of the plan: what was rejected of its corpora by earlier builds is told anew."""
        self._planned = units

    def enter_published(self, unit: Unit) -> None:
        """Enter the next unit of the plan, which the memory holds: it is not looked at again."""
        self.ledger.enter_published(unit.piece.rows, self._rejections.of_piece(unit.piece_id))

    def enter(self, unit: Unit) -> None:
        """Enter the next unit of the plan, which is in the store."""
        done = self._store.load(unit.id)
        assert done is not None, f"unit {unit.id} was finished under the lock and is gone or damaged"
        admitted = self._admission.admit(done)
        self.ledger.enter(admitted.num_rows, (*done.rejected, *admitted.late))
        self.finished.append(FinishedUnit(UnitRecord(unit.id, admitted.num_rows), admitted))
        self._entered.append(unit)
        items = admitted.take(done.rows).items
        self._note_keys(items.column("key").to_pylist())

    def judge(self, *, complete: bool) -> None:
        """Stop on too many rejected rows, or for want of a single good one; leave the ledger either way.

        Args:
            complete: whether all units of the plan are entered.

        Raises:
            TooManyRejected, NothingUsable: work/rejected.jsonl has the rows.
        """
        ledger = self.ledger
        exceeded = ledger.exceeds(complete=complete)
        empty = complete and not ledger.added and self._previous.manifest is None
        if exceeded or (complete and self.finished):
            self._write_rejected(refused=exceeded or empty)
        if empty:
            raise NothingUsable(
                f"None of the {ledger.rows:,} rows can be stored. Rejected: {ledger.codes()}. Every row and "
                f"its reason is in {self._rejections.path}.{advice(ledger.rejected, ledger.changed)}",
                ledger.rejected,
            )
        if exceeded:
            raise ledger.refusal(self._rejections.path)

    def _note_keys(self, keys: list[str]) -> None:
        """Keys of rows that will be stored: what they replace goes, and none of them is a removed key any more."""
        self.replaced += [self._previous.ids[key] for key in keys if key in self._previous.ids]
        if self.removed:
            self.removed = self.removed.difference(map(key_hash, keys))

    def _write_rejected(self, *, refused: bool) -> None:
        entered = {unit.piece_id for unit in self._entered}
        kept = {unit.piece_id for unit in self._planned}.difference(entered)
        self._rejections.write(self._rejected(), {unit.reader.name for unit in self._planned}, kept, refused=refused)

    def _rejected(self) -> Iterator[RejectedPiece]:
        for unit, finished in zip(self._entered, self.finished, strict=True):
            rows = (*self._store.rejected(unit.id), *finished.admitted.late)
            lasting = [row for row in rows if row.code != ALREADY_STORED]
            yield RejectedPiece(unit.reader.name, unit.piece_id, lasting)
