"""A tar in WebDataset form: a sample's members follow one another and share their name up to the first dot.

Members are read where they lie: nothing is extracted, unpickled or decoded by its
extension.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from memory_builder.errors import CorpusError
from memory_builder.readers.archive import Archive, Member, opened_archive, scan_members
from memory_builder.readers.captions import PLAIN_EXTENSIONS, most_bytes, read_caption
from memory_builder.readers.reader import IMAGE_EXTENSIONS, Piece, ReaderOptions
from memory_builder.readers.regular_file import Stamp, changed
from memory_builder.readers.source import Source, stamp_of
from memory_builder.records import Record, Rejected, Row, RowRejected, check_key, readable

_CAPTION_EXTENSIONS = (*PLAIN_EXTENSIONS, "json")  # in order of preference


@dataclass
class _Sample:
    """One row: the members that count, in the order of the archive."""

    key: str
    begin: int
    images: list[Member] = field(default_factory=list)
    captions: dict[str, Member] = field(default_factory=dict)
    extensions: set[str] = field(default_factory=set)


class _Range(NamedTuple):
    """A piece's place: headers from `begin` up to `end` in the file that had `stamp`."""

    begin: int
    end: int
    stamp: Stamp


class WebDatasetReader:
    """Rows of a tar: one for each sample that has an image or a caption.

    The key is `<tar's name without .tar>/<member's path up to the first dot of its base name>`; what follows
    that dot is the extension. Captions are, in this order, `.txt`, `.caption`, or "caption" in `.json`.
    Members of other extensions, hidden ones and a sample's further images are ignored and counted. An
    extension that comes twice begins a new sample.
    """

    kind = "webdataset"

    def __init__(self, path: Source, name: str, options: ReaderOptions) -> None:
        self.name = name
        self.ignored = 0
        self.example_ignored = ""
        self._path = path
        self._max_image_bytes = options.max_image_bytes

    def options(self) -> Mapping[str, str]:
        """None changes what a row is."""
        return {}

    def pieces(self, unit_rows: int) -> Iterator[Piece]:
        """As in Reader: in the order of the archive, which is proven whole by the time the iterator ends."""
        self.ignored, self.example_ignored = 0, ""
        try:
            stamp = stamp_of(self._path)
        except OSError as error:
            raise CorpusError("source_unreadable", f"{self._path} cannot be read: {error}") from error
        begin, rows = 0, 0
        for sample in _samples(scan_members(self._path), self._ignore):
            if rows == unit_rows:
                yield _piece(_Range(begin, sample.begin, stamp), rows)
                rows = 0
            begin = begin if rows else sample.begin
            rows += 1
        if rows:
            yield _piece(_Range(begin, stamp.size, stamp), rows)

    def read(self, piece: Piece) -> Iterator[Row]:
        """As in Reader."""
        place: _Range = piece.place
        rows = 0
        with opened_archive(self._path, place.stamp) as archive:
            for sample in _samples(archive.members(place.begin, place.end)):
                yield self._row(sample, archive)
                rows += 1
        if rows != piece.rows:
            raise changed(self._path)

    def advice(self) -> str:
        """What would work, where no sample is whole, and parts of one lie apart; empty where that is not so.

        `tar cf x.tar *.jpg *.txt` packs so. The headers of the whole archive are read.
        """
        without_caption, without_image = set[str](), set[str]()
        for sample in _samples(scan_members(self._path)):
            if sample.images and sample.captions:
                return ""
            (without_caption if sample.images else without_image).add(sample.key)
        if without_caption.isdisjoint(without_image):
            return ""
        return (
            f"In {self._path.name} an image and its caption do not follow one another, as they must: pack it anew, "
            "sorted by name, like tar --sort=name -cf shard.tar FOLDER."
        )

    def _row(self, sample: _Sample, archive: Archive) -> Row:
        key = f"{self.name}/{readable(sample.key)}"
        parts = [*sample.images, *sample.captions.values()]
        source = f"{readable(self._path.name)}/{readable(parts[0].name)}"
        try:
            if not sample.images:
                raise RowRejected("missing_image", "The sample has a caption and no image.")
            if not sample.captions:
                raise RowRejected("missing_caption", "The sample has an image and no .txt, .caption or .json.")
            extension = min(sample.captions, key=_CAPTION_EXTENSIONS.index)
            image, caption = sample.images[0], sample.captions[extension]
            if not (image.regular and caption.regular):
                raise RowRejected("member_type", "A member is a link, a device or sparse, not a regular file.")
            text = read_caption(archive.read(caption, most_bytes(extension)), extension)
            return Record(check_key(key), text, archive.later(image, self._max_image_bytes), source)
        except RowRejected as rejected:
            return Rejected(key, rejected.code, rejected.detail, source)

    def _ignore(self, member: Member) -> None:
        self.ignored += 1
        self.example_ignored = self.example_ignored or readable(member.name)


def _samples(members: Iterable[Member], ignore: Callable[[Member], None] = lambda _: None) -> Iterator[_Sample]:
    sample: _Sample | None = None
    for member in members:
        key, extension = _split(member.name)
        is_image = extension in IMAGE_EXTENSIONS
        if not key or not (is_image or extension in _CAPTION_EXTENSIONS):
            ignore(member)
            continue
        if sample is None or key != sample.key or extension in sample.extensions:
            if sample is not None:
                yield sample
            sample = _Sample(key, member.begin)
        sample.extensions.add(extension)
        if not is_image:
            sample.captions[extension] = member
        elif sample.images:
            ignore(member)
        else:
            sample.images.append(member)
    if sample is not None:
        yield sample


def _split(name: str) -> tuple[str, str]:
    """Key and lower-case extension of a member; no key if its base name begins with a dot or has none."""
    folder, slash, base = name.removeprefix("./").rpartition("/")
    stem, dot, extension = base.partition(".")
    return (folder + slash + stem if stem and dot else ""), extension.lower()


def _piece(place: _Range, rows: int) -> Piece:
    digest = hashlib.sha256(json.dumps(place).encode()).hexdigest()
    return Piece(rows, digest, place)
