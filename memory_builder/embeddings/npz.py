"""A single .npz with `image` and `text`: rows of both sides, or few-shot caches with one text for each class. numpy.

Its arrays are loaded when the first row is read, and are refused before that if they are too large to hold.
"""

import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from memory_builder.embeddings.arrays import Header, check_matrix, read_header
from memory_builder.embeddings.block import Block, Embeddings, Pair
from memory_builder.embeddings.reader import check_same_dim
from memory_builder.errors import CorpusError
from memory_builder.readers.regular_file import Stamp, changed
from memory_builder.records import Rejected, RowRejected, check_key, readable

MAX_BYTES = 8 << 30
_EXPECTED = (
    "Expected are image (N, D) and text (N, D), with caption, key and image_sha256 (N,) if they are known; or text "
    "(C, D), label (N,) that gives each image's row of text, and class_name (C,) if it is known."
)
# What an array's values may be, as numpy's kinds of dtype, and what to call that.
_KINDS = {
    "label": ("iu", "whole numbers"),
    "caption": ("US", "texts"),
    "class_name": ("US", "texts"),
    "key": ("USiu", "texts or whole numbers"),
    "image_sha256": ("US", "texts"),
}
_SHA256 = re.compile(r"[0-9a-f]{64}")


class NpzShard:
    """All rows of an .npz, as reader.Shard has it.

    The key is `<file>/<key>`, else `<file>/<row>`, rows counted from 0.
    """

    def __init__(self, path: Path, prefix: str) -> None:
        """Read the headers, and the labels if there are any.

        Raises:
            CorpusError: embeddings_layout (an array is missing), embeddings_invalid, embeddings_mismatch, or the file
                cannot be read.
        """
        self.name, self._path, self._prefix = str(path), path, prefix
        with _opened(path) as archive:
            self._stamp = Stamp.of(path.stat())
            self._headers = _headers(archive, path)
            for side in ("image", "text"):
                check_matrix(self._headers[side], f"{side} in {path}")
            image, text = self._headers["image"].shape, self._headers["text"].shape
            check_same_dim((f"image in {path}", image[1]), (f"text in {path}", text[1]))
            self._num_texts = text[0]
            self.rows, self.embed_dim = image
            self._by_label = image[0] != text[0] or self._is_one_image_a_class(archive)
            self._check_columns()
            if self._by_label:
                self._check_labels(_load(archive, "label"))
        self._caption_of_row = "caption" in self._headers
        self.has_captions = self._caption_of_row or (self._by_label and "class_name" in self._headers)
        self.state: Sequence[Any] = [path.name, *self._stamp]
        self._arrays: dict[str, NDArray[Any]] = {}
        self._texts: dict[str, list[str]] = {}

    def read(self, start: int, stop: int) -> Block:
        """As in Shard."""
        if not self._arrays:
            self._load()
        image, text = (cast("Embeddings", self._arrays[side]) for side in ("image", "text"))
        rows = self._arrays["label"][start:stop] if self._by_label else np.arange(start, stop)
        pairs = [self._pair(row, int(text_row)) for row, text_row in enumerate(rows, start)]
        block = Block(image[start:stop].copy(), text[rows], pairs)
        if stop >= self.rows:  # the last of many files would else be held with all before it
            self._arrays, self._texts = {}, {}
        return block

    def _pair(self, row: int, text_row: int) -> Pair | Rejected:
        key, source = f"{self._prefix}/{row}", f"{readable(self._path.name)} row {row}"
        texts, caption, image_sha256 = self._texts, None, ""
        try:
            if "key" in texts:
                key = f"{self._prefix}/{readable(texts['key'][row]).lstrip('/')}"
            if "image_sha256" in texts:
                image_sha256 = texts["image_sha256"][row].lower()
                if image_sha256 and not _SHA256.fullmatch(image_sha256):
                    raise RowRejected("row_invalid", "The row's image_sha256 is not 64 hexadecimal digits.")
            if self.has_captions:
                caption = texts["caption"][row] if self._caption_of_row else texts["class_name"][text_row]
            return Pair(check_key(key), caption.strip() if caption is not None else None, source, image_sha256)
        except RowRejected as rejected:
            return Rejected(key, rejected.code, rejected.detail, source)

    def _load(self) -> None:
        with _opened(self._path) as archive:
            if Stamp.of(self._path.stat()) != self._stamp:
                raise changed(self._path)
            arrays = {name: _load(archive, name) for name in self._headers}
            if self._by_label:
                arrays["label"] = arrays["label"].astype(np.int64)
            self._texts = {name: _as_texts(arrays.pop(name)) for name in _KINDS if name in arrays and name != "label"}
            self._arrays = arrays

    def _is_one_image_a_class(self, archive: zipfile.ZipFile) -> bool:
        """Whether as many images as texts are one image for each text, which label orders, and not pairs by row."""
        label, names = self._headers.get("label"), self._headers.get("class_name")
        if label is None or label.shape != (self.rows,) or (names is not None and names.shape != (self.rows,)):
            return False
        return np.array_equal(np.sort(_load(archive, "label")), np.arange(self.rows))

    def _check_columns(self) -> None:
        if self._by_label and "label" not in self._headers:
            raise CorpusError(
                "embeddings_mismatch",
                f"{self._path} has {self.rows:,} rows of image and {self._num_texts:,} of text, and no label that says "
                f"which belong together. {_EXPECTED}",
            )
        if not self._by_label:  # every image has its own text: what is told of classes says nothing about it
            for name in ("label", "class_name"):
                self._headers.pop(name, None)
        for name in self._headers.keys() & _KINDS.keys():
            header, rows = self._headers[name], self._num_texts if name == "class_name" else self.rows
            kinds, called = _KINDS[name]
            if header.shape != (rows,):
                raise CorpusError(
                    "embeddings_mismatch",
                    f"{name} in {self._path} has the shape {header.shape}, expected ({rows},). {_EXPECTED}",
                )
            if header.dtype.kind not in kinds:
                raise CorpusError("embeddings_invalid", f"{name} in {self._path} is {header.dtype}, not {called}.")

    def _check_labels(self, label: NDArray[Any]) -> None:
        if label.size and not (label.min() >= 0 and label.max() < self._num_texts):
            raise CorpusError(
                "embeddings_mismatch",
                f"label in {self._path} runs from {label.min()} to {label.max()}, and text has rows 0 to "
                f"{self._num_texts - 1}: a label is a row of text.",
            )


def _headers(archive: zipfile.ZipFile, path: Path) -> dict[str, Header]:
    """The headers of the arrays that are used; others may be anything, and are not looked at."""
    members = {name.removesuffix(".npy"): archive.getinfo(name) for name in archive.namelist()}
    missing = [side for side in ("image", "text") if side not in members]
    if missing:
        found = ", ".join(map(readable, list(members)[:20])) or "nothing"
        raise CorpusError(
            "embeddings_layout", f"{path} has no array {' and no array '.join(missing)}. {_EXPECTED} It has: {found}."
        )
    headers = {}
    for name in ("image", "text", *_KINDS):
        if name in members:
            with archive.open(members[name]) as stream:
                headers[name] = read_header(stream, members[name].file_size, f"{name} in {path}")
    needed = sum(header.data_bytes for header in headers.values())
    if needed > MAX_BYTES:
        raise CorpusError(
            "embeddings_invalid",
            f"The arrays of {path} take {needed / 1e9:.1f} GB, and an .npz is loaded whole, up to "
            f"{MAX_BYTES / 1e9:.1f} GB. Save the rows as img_emb/0.npy and text_emb/0.npy in a folder, which is read "
            "in parts.",
        )
    return headers


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive, with what zipfile and zlib raise told as ours."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except OSError as error:
        raise CorpusError("source_unreadable", f"Reading {path} failed: {error.strerror or error}.") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError) as error:
        raise CorpusError(
            "embeddings_invalid", f"{path} is no .npz that can be read ({error}): save it with numpy.savez."
        ) from error


def _load(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    member = f"{name}.npy" if f"{name}.npy" in archive.namelist() else name
    with archive.open(member) as stream:
        return npy.read_array(stream, allow_pickle=False)


def _as_texts(array: NDArray[Any]) -> list[str]:
    if array.dtype.kind == "S":
        return [value.decode("utf-8", "surrogateescape") for value in array.tolist()]
    return [str(value) for value in array.tolist()]
