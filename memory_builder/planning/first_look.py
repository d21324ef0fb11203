"""A corpus's first rows, looked at before an encoder is opened: can any of them be stored? Imports no torch.

A table of absolute paths, or a folder of broken images, is told at once instead of after the seconds an encoder takes.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from memory_builder.readers.folder import FolderReader
from memory_builder.readers.reader import Reader, ReaderOptions
from memory_builder.readers.webdataset import WebDatasetReader
from memory_builder.records import Rejected, Row, RowRejected
from memory_builder.reporting.ledger import advice
from models.errors import InputError
from models.images.decoding import decode_image

_ROWS = 64


@dataclass(frozen=True)
class FirstLook:
    """Rows that cannot be stored, up to the first that can.

    Attributes:
        rejected: of these, by code.
        example: the first of them, for people.
        usable: whether a row that can be stored was found, or there is none at all.
        complete: whether all rows were looked at.
        advice: what would work, where the listings alone show that no row can be stored; else empty.
        columns: of each table that was looked at, a sentence of the columns that were found by their usual names.
    """

    rejected: Counter[str]
    example: str
    usable: bool
    complete: bool
    advice: str = ""
    columns: tuple[str, ...] = ()

    @property
    def hopeless(self) -> bool:
        """Whether the rows that were not looked at cannot be stored either."""
        return bool(self.advice)

    @property
    def sentences(self) -> list[tuple[str, bool]]:
        """What a person may want to know before it begins, and whether it is a warning."""
        warning = [] if self.warning is None else [(self.warning, True)]
        return [*((f"  {told}", False) for told in self.columns), *warning]

    @property
    def warning(self) -> str | None:
        """A sentence if nothing that was looked at can be stored."""
        if self.usable:
            return None
        codes = ", ".join(f"{count:,} {code}" for code, count in self.rejected.most_common())
        which, rows = "" if self.complete else "first ", self.rejected.total()
        none = "The only row cannot" if rows == 1 else f"None of the {which}{rows:,} rows can"
        ways = "".join(f" {way}" for way in (advice(self.rejected).strip(), self.advice) if way)
        return f"{none} be stored: {codes}. The first: {self.example}.{ways} docs/builder.md says what each code means."


def look_at(readers: Iterable[Reader[Row]]) -> FirstLook:
    """Look at rows until one can be stored, 64 at most; captions are read, and left to the encoder to judge.

    Raises:
        CorpusError: as reading it does.
    """
    rejected, example = Counter[str](), ""
    coming, seen = iter(readers), list[Reader[Row]]()
    for row in _rows(coming, seen):
        fault = _fault(row)
        if fault is None:
            return FirstLook(rejected, example, usable=True, complete=False)
        rejected[fault.code] += 1
        example = example or f"{row.source} ({row.key}), {fault.code}: {fault.detail.rstrip('.')}"
        if rejected.total() == _ROWS:
            return FirstLook(rejected, example, False, False, _advice(rejected, chain(seen, coming)))
    return FirstLook(rejected, example, not rejected, True, _advice(rejected, seen))


def _advice(rejected: Counter[str], readers: Iterable[Reader[Row]]) -> str:
    """What would work, if all readers are of folders or tars that hold no pair."""
    ways: list[str] = []
    for reader in readers if set(rejected) <= {"missing_caption", "missing_image"} else ():
        way = reader.advice() if isinstance(reader, FolderReader | WebDatasetReader) else ""
        if not way:
            return ""
        ways.append(way)
    return " ".join(ways)


def _rows(readers: Iterable[Reader[Row]], seen: list[Reader[Row]]) -> Iterator[Row]:
    for reader in readers:
        seen.append(reader)
        for piece in reader.pieces(_ROWS):
            yield from reader.read(piece)


def _fault(row: Row) -> Rejected | RowRejected | InputError | None:
    """What keeps a row from being stored, with its code and detail; None where nothing is seen to."""
    if isinstance(row, Rejected):
        return row
    try:
        decode_image(row.image())
    except (RowRejected, InputError) as error:
        return error
    return None


def found_by_name(reader: Reader[Row], asked: ReaderOptions) -> str:
    """Which columns of a table hold captions and images, where the user named none; else nothing."""
    chosen = reader.options()
    said = [
        f"{what} from the column {chosen[column]!r}"
        for what, column, given in (
            ("captions", "caption_column", asked.caption_column or asked.caption_templates),
            ("images", "image_column", asked.image_columns),
        )
        if chosen.get(column) and not given
    ]
    return f"{reader.name}: {', '.join(said)}" if said else ""
