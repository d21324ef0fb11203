"""A folder of images with captions beside them, `a.jpg` with `a.txt` or `a.caption`, in any depth.

Standard library only. Links are not followed; hidden names, such as the ._a.jpg that macOS keeps beside a.jpg, are not
read, and files of such names are counted as ignored.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from memory_builder.errors import CorpusError
from memory_builder.readers.captions import PLAIN_EXTENSIONS, most_bytes, read_caption
from memory_builder.readers.folder_advice import FilesBeside, without_captions
from memory_builder.readers.reader import IMAGE_EXTENSIONS, Piece, ReaderOptions
from memory_builder.readers.regular_file import Stamp, read_file, stem_of
from memory_builder.records import LINKED_FOLDER, Record, Rejected, Row, RowRejected, check_key, readable
from memory_builder.template_turns import recorded, turn

_DETAILS = {
    "missing_image": "There is no image beside this caption.",
    "missing_caption": "There is no caption (.txt or .caption) beside this image.",
    "member_type": "It is a link, a device or a folder, not a regular file.",
    LINKED_FOLDER: "It is a link to a folder, and what lies behind it is left out.",
    "duplicate_key": "Another image of the same name, with another extension, comes first.",
}


class _FolderRow(NamedTuple):
    """One row: names relative to the root, "" where there is none; `code` if it is rejected on sight."""

    image: str
    caption: str
    code: str


class _Group(NamedTuple):
    """The files of one folder that have the same name up to the extension."""

    images: list[str]
    captions: list[str]
    irregular: list[str]


class FolderReader:
    """Rows of a folder: one for each image, and one for each caption that has none.

    The key is `<folder>/<path in it without the extension>`, and the extension is what follows the last dot.
    Of two images that would share a key the first in the order of their names is taken, the other is a
    duplicate.
    """

    kind = "folder"

    def __init__(self, root: Path, name: str, options: ReaderOptions) -> None:
        self.name = name
        self.ignored = 0
        self.example_ignored = ""
        self._hidden = 0  # of the ignored
        self._root = root
        self._max_image_bytes = options.max_image_bytes
        self._templates = options.folder_templates
        self._beside = FilesBeside(root)

    def options(self) -> Mapping[str, str]:
        """What stands for a caption that is not there."""
        return recorded("caption_from_folder", self._templates)

    def pieces(self, unit_rows: int) -> Iterator[Piece]:
        """As in Reader: ordered by folder, then by the bytes of the names; links to folders come last."""
        rows: list[_FolderRow] = []
        digest, found = hashlib.sha256(), False
        self.ignored, self.example_ignored, self._hidden = 0, "", 0
        self._beside = FilesBeside(self._root)
        for row in self._rows():
            found = True
            rows.append(row)
            stamps = [self._stamp(name) for name in (row.image, row.caption)]
            digest.update(json.dumps([row, stamps]).encode() + b"\n")
            if len(rows) == unit_rows:
                yield Piece(len(rows), digest.hexdigest(), tuple(rows))
                rows, digest = [], hashlib.sha256()
        if rows:
            yield Piece(len(rows), digest.hexdigest(), tuple(rows))
        if not found:
            raise self._empty()

    def read(self, piece: Piece) -> Iterator[Row]:
        """As in Reader. A file that went since the scan costs its own row only."""
        for row in piece.place:
            name = row.image or row.caption
            stem = readable(stem_of(name))
            source = f"{self.name}/{readable(name)}"
            key = f"{self.name}/{stem}"
            try:
                if row.code:
                    raise RowRejected(row.code, _DETAILS[row.code])
                yield Record(check_key(key), self._caption(row, key), self._image(row.image), source)
            except RowRejected as rejected:
                yield Rejected(key, rejected.code, rejected.detail, source)

    def advice(self) -> str:
        """What would work, where the listing alone shows that images have no captions; empty where one has."""
        lacking, class_folders, self._beside = False, False, FilesBeside(self._root)
        for row in self._rows():
            if not row.code:
                return ""
            if row.code == "missing_caption":
                lacking, class_folders = True, class_folders or "/" in row.image
        return without_captions(self._root, self._beside, class_folders=class_folders) if lacking else ""

    def _empty(self) -> CorpusError:
        if not self.ignored:
            return CorpusError("source_empty", f"The folder {self._root} holds no image.")
        if self.ignored == self._hidden:
            return CorpusError(
                "source_empty",
                f"The folder {self._root} holds no image that is read. Files that are there: {self.ignored} of hidden "
                f"names, such as {self.example_ignored}: rename them, without the dot, if they are images.",
            )
        told = self._beside.advice or "None of them is a table, a tar or a Parquet file, which would be named itself."
        return CorpusError(
            "source_empty",
            f"The folder {self._root} holds no image, and {self.ignored} files of other kinds, such as "
            f"{self.example_ignored}. {told}",
        )

    def _caption(self, row: _FolderRow, key: str) -> str:
        name = row.caption
        if not name and self._templates:
            folder = row.image.rpartition("/")[0].rpartition("/")[2]
            template = self._templates[turn(key, len(self._templates))]
            return template.replace("{}", readable(folder) or self.name)
        extension = name.rpartition(".")[2].lower()
        return read_caption(read_file(self._root / name, most_bytes(extension)), extension)

    def _image(self, name: str) -> partial[bytes]:
        return partial(read_file, self._root / name, self._max_image_bytes)

    def _stamp(self, name: str) -> Stamp | None:
        try:
            return Stamp.of((self._root / name).lstat()) if name else None
        except FileNotFoundError:  # gone since it was listed: reading it will say so
            return None

    def _rows(self) -> Iterator[_FolderRow]:
        folders = [""]  # relative to the root; a stack, so that depth is no matter
        linked: list[str] = []  # told last: a link that comes or goes moves no pair into another unit
        while folders:
            folder = folders.pop()
            groups: dict[str, _Group] = {}
            inner = []
            for entry in self._listed(folder):
                if entry.is_dir(follow_symlinks=False):
                    inner.append(f"{folder}{entry.name}/")
                elif _is_linked_folder(entry):
                    linked.append(folder + entry.name)
                else:
                    self._sort_in(entry, folder, groups)
            for group in groups.values():
                yield from _paired(group, lacking="" if self._templates else "missing_caption")
            folders += reversed(inner)
        yield from (_FolderRow(name, "", LINKED_FOLDER) for name in linked)

    def _listed(self, folder: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self._root / folder) as entries:
                visible = [entry for entry in entries if not self._is_hidden(entry, folder)]
        except OSError as error:
            raise CorpusError("source_unreadable", f"{self._root / folder} cannot be listed: {error}") from error
        return sorted(visible, key=lambda entry: os.fsencode(entry.name))

    def _is_hidden(self, entry: os.DirEntry[str], folder: str) -> bool:
        """Whether its name begins with a dot; a file of such a name is counted."""
        hidden = entry.name.startswith(".")
        if hidden and entry.is_file(follow_symlinks=False):
            self._hidden += 1
            self._ignore(folder + entry.name)
        return hidden

    def _ignore(self, name: str) -> None:
        self.ignored += 1
        self.example_ignored = self.example_ignored or readable(name)

    def _sort_in(self, entry: os.DirEntry[str], folder: str, groups: dict[str, _Group]) -> None:
        stem, dot, extension = entry.name.rpartition(".")
        name, extension = folder + entry.name, extension.lower()
        if not dot or not (extension in IMAGE_EXTENSIONS or extension in PLAIN_EXTENSIONS):
            self._ignore(name)
            self._beside.note(name)
            return
        group = groups.setdefault(stem, _Group([], [], []))
        if not entry.is_file(follow_symlinks=False):
            group.irregular.append(name)
        elif extension in IMAGE_EXTENSIONS:
            group.images.append(name)
        else:
            group.captions.append(name)


def _is_linked_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a link to a folder: the pairs there are left out, which must not go untold."""
    try:
        return entry.is_symlink() and entry.is_dir()
    except OSError:  # it leads to itself, or where nobody may look
        return False


def _paired(group: _Group, lacking: str) -> Iterator[_FolderRow]:
    """A row for each image, or one for a group that has none; `lacking` is the code of an image without a caption."""
    order = PLAIN_EXTENSIONS.index
    caption = min(group.captions, key=lambda name: order(name.rpartition(".")[2].lower()), default="")
    alone = "member_type" if group.irregular else lacking
    for number, image in enumerate(group.images):
        yield _FolderRow(image, caption, "duplicate_key" if number else "" if caption else alone)
    if not group.images and group.irregular:
        yield _FolderRow(group.irregular[0], caption, "member_type")
    elif not group.images:
        yield _FolderRow("", caption, "missing_image")
