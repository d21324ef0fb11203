"""A row of a corpus as the readers give it: a record to encode, or a rejection. Imports nothing.

Every row of a corpus becomes exactly one of the two, so that rows in = rows stored + rows rejected.
"""

# Refusals are named by what happened, without a suffix, as in memory/errors.py.
# ruff: noqa: N818

from collections.abc import Callable
from dataclasses import dataclass

MAX_KEY_CHARACTERS = 1024
LINKED_FOLDER = "linked_folder"


@dataclass(frozen=True)
class Record:
    """One image-text pair before encoding.

    Attributes:
        key: global key, `<corpus name>/<key within the corpus>`: an identifier, never used as a path.
        caption: as the corpus has it, not yet checked; may hold surrogates where the corpus is not UTF-8.
        image: reads the image's bytes, from any thread; raises RowRejected.
        source: where it came from, for people, relative to the corpus.
    """

    key: str
    caption: str
    image: Callable[[], bytes]
    source: str


@dataclass(frozen=True)
class Rejected:
    """One row that is not stored.

    Attributes:
        key: as in Record; a row that has no key of its own is named by its place.
        code: stable, for programs. Readers: missing_image, missing_caption, caption_invalid, member_type,
            linked_folder, key_invalid, path_outside, row_invalid, source_changed, source_unreadable, duplicate_key. The
            mapper and the importer add duplicate_key, already_stored, repeated, removed_earlier, nonfinite_embedding
            and the codes of models.errors.InputError.
        detail: one fixed sentence.
        source: as in Record.
    """

    key: str
    code: str
    detail: str
    source: str


Row = Record | Rejected


class RowRejected(Exception):
    """Raised while one row is read; becomes that row's `Rejected`."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail


def readable(name: str) -> str:
    r"""A file or member name as valid Unicode: bytes that are not UTF-8 show as \xff."""
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # a lone surrogate that stands for no byte: JSON can spell it
        return name.encode("utf-8", "backslashreplace").decode()


def check_key(key: str) -> str:
    """Accept the global key of a record.

    Raises:
        RowRejected: key_invalid.
    """
    if key.endswith("/") or len(key) > MAX_KEY_CHARACTERS:
        raise RowRejected("key_invalid", f"The key is empty or has more than {MAX_KEY_CHARACTERS} characters.")
    return key


def told_key(key: str, place: str) -> str:
    """What a rejected row is named by: its key, or its place if that is too long: images as text, say."""
    return key if len(key) <= MAX_KEY_CHARACTERS else place
