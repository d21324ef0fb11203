"""Multipart bodies, parsed in memory: no temporary file, and a missing closing boundary is an error.

The name of a part decides what it is (`files` holds an image, anything else is a field); file names are
ignored. Which fields there are is the caller's to know. Depends on python-multipart, words and problems.
"""

import logging
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.forms.words import Word
from service.problems import ItemError, Problem

FILES_FIELD = "files"
MAX_FIELDS = 16
MAX_FIELD_BYTES = 1024 * 1024
_MAX_NAME_BYTES = 64

# It writes a warning for each malformed upload: a log flood that any client could order.
logging.getLogger("python_multipart").setLevel(logging.ERROR)


@dataclass
class Form:
    """What a multipart body held: images, and fields, both in order."""

    files: list[bytes | ItemError] = field(default_factory=list)
    fields: list[Word] = field(default_factory=list)


def parse_form(
    body: bytes, content_type: str, *, max_files: int, max_file_bytes: int, max_field_bytes: int = MAX_FIELD_BYTES
) -> Form:
    """Parse a multipart/form-data body; a file that is too large is an error in its place.

    Raises:
        Problem: multipart_invalid, multipart_truncated, batch_too_large, field_too_large.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise Problem("multipart_invalid")
    collector = _Collector(max_files=max_files, max_file_bytes=max_file_bytes, max_field_bytes=max_field_bytes)
    try:
        parser = MultipartParser(boundary, collector.callbacks())  # type: ignore[arg-type]
        parser.write(body)
        parser.finalize()
    except FormParserError:
        raise Problem("multipart_invalid") from None
    if not collector.ended:
        raise Problem("multipart_truncated" if collector.parts else "multipart_invalid")
    return collector.form


class _Collector:
    """Receives the parser's events and enforces every limit as soon as it is passed."""

    def __init__(self, *, max_files: int, max_file_bytes: int, max_field_bytes: int) -> None:
        self.form = Form()
        self.ended = False
        self.parts = 0
        self._max_files = max_files
        self._max_file_bytes = max_file_bytes
        self._max_field_bytes = max_field_bytes
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._disposition = b""
        self._name = ""
        self._is_file = False
        self._data = bytearray()
        self._is_too_large = False

    def callbacks(self) -> dict[str, object]:
        return {
            "on_part_begin": self._on_part_begin,
            "on_header_field": lambda data, start, end: self._header_name.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._header_value.extend(data[start:end]),
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": self._on_part_data,
            "on_part_end": self._on_part_end,
            "on_end": self._on_end,
        }

    def _on_part_begin(self) -> None:
        self.parts += 1
        self._disposition, self._name, self._data = b"", "", bytearray()
        self._is_too_large = False

    def _on_header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = bytes(self._header_value)
        self._header_name, self._header_value = bytearray(), bytearray()

    def _on_headers_finished(self) -> None:
        options = parse_options_header(self._disposition)[1]
        name = options.get(b"name")
        if name is None or len(name) > _MAX_NAME_BYTES:
            raise Problem("multipart_invalid")
        # Never printed: an unknown name is refused later without being repeated.
        self._name = name.decode("latin-1")
        self._is_file = b"filename" in options
        if self._name == FILES_FIELD:
            if len(self.form.files) == self._max_files:
                raise Problem("batch_too_large", extensions={"limit": self._max_files})
        elif len(self.form.fields) == MAX_FIELDS:
            raise Problem("multipart_invalid", extensions={"limit": MAX_FIELDS})

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        size = len(self._data) + end - start
        if self._name == FILES_FIELD:
            self._is_too_large |= size > self._max_file_bytes
            if self._is_too_large:  # an error in its place, as in JSON: the others may be wanted
                self._data.clear()
                return
        elif size > self._max_field_bytes:
            raise Problem("field_too_large", extensions={"limit": self._max_field_bytes})
        self._data += data[start:end]

    def _on_part_end(self) -> None:
        if self._name == FILES_FIELD:
            where = f"/images/{len(self.form.files)}"
            self.form.files.append(ItemError(where, "image_too_large") if self._is_too_large else bytes(self._data))
            return
        try:
            text = self._data.decode("utf-8")
        except UnicodeDecodeError:
            text = None
        self.form.fields.append(Word(self._name, text, self._is_file))

    def _on_end(self) -> None:
        self.ended = True
