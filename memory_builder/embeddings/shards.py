"""The folder that clip-retrieval writes, and LAION publishes: img_emb/, text_emb/ and metadata/, paired by number.

DIR/img_emb/img_emb_0.npy  DIR/text_emb/text_emb_0.npy  DIR/metadata/metadata_0.parquet     numpy and pyarrow
"""

import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from memory_builder.embeddings.arrays import NpyFile
from memory_builder.embeddings.block import Block, Pair
from memory_builder.embeddings.metadata import Described, MetadataFile
from memory_builder.embeddings.reader import check_same_dim
from memory_builder.errors import CorpusError
from memory_builder.readers.reader import ReaderOptions
from memory_builder.records import Rejected, RowRejected, check_key, readable

IMAGES, TEXTS, METADATA = "img_emb", "text_emb", "metadata"
_SUFFIX = {IMAGES: ".npy", TEXTS: ".npy", METADATA: ".parquet"}
_NUMBER = re.compile(r"\d{1,18}$")


class NpyShard:
    """One image file, its text file and, if there is any, its metadata, as reader.Shard has it.

    The key is `<folder>/<key or image_path of the metadata>`, else `<folder>/<image file without .npy>/<row>`, rows
    counted from 0.
    """

    def __init__(self, prefix: str, image: NpyFile, text: NpyFile, metadata: MetadataFile | None) -> None:
        """Check that the files fit together.

        Raises:
            CorpusError: embeddings_mismatch.
        """
        check_same_dim((str(image.path), image.shape[1]), (str(text.path), text.shape[1]))
        self.name = str(image.path)
        self.rows, self.embed_dim = image.shape
        self.has_captions = metadata is not None
        others = [(text.path, text.shape[0]), *([(metadata.path, metadata.rows)] if metadata else [])]
        for path, rows in others:
            if rows != self.rows:
                raise CorpusError(
                    "embeddings_mismatch",
                    f"{image.path} has {self.rows:,} rows and {path} has {rows:,}: row i of one must belong to row i "
                    "of the other. Write both again from the same run.",
                )
        files: list[NpyFile | MetadataFile] = [image, text, *([metadata] if metadata else [])]
        self.state: Sequence[Any] = [[file.path.name, *file.stamp] for file in files]
        self._prefix, self._image, self._text, self._metadata = prefix, image, text, metadata

    def read(self, start: int, stop: int) -> Block:
        """As in Shard."""
        pairs: list[Pair | Rejected]
        if self._metadata:
            pairs = [self._pair(row, told) for row, told in enumerate(self._metadata.read(start, stop), start)]
        else:
            pairs = [Pair(self._row_key(row), None, self._source(row)) for row in range(start, stop)]
        return Block(self._image.rows(start, stop), self._text.rows(start, stop), pairs)

    def _pair(self, row: int, told: Described) -> Pair | Rejected:
        key = self._row_key(row)
        source = readable(told.source) if told.source else self._source(row)
        try:
            if self._metadata and self._metadata.has_keys:
                if told.key is None:
                    raise RowRejected("key_invalid", "The row has no key.")
                key = f"{self._prefix}/{readable(told.key).lstrip('/')}"
            if told.caption is None:
                raise RowRejected("missing_caption", "The row has no caption.")
            return Pair(check_key(key), told.caption.strip(), source)
        except RowRejected as rejected:
            return Rejected(key, rejected.code, rejected.detail, source)

    def _row_key(self, row: int) -> str:
        return f"{self._prefix}/{readable(self._image.path.stem)}/{row}"

    def _source(self, row: int) -> str:
        return f"{readable(self._image.path.name)} row {row}"


def find_shards(root: Path, name: str, options: ReaderOptions) -> tuple[list[NpyShard], list[str]]:
    """Pair the files of a folder.

    Returns:
        The shards in the order of their numbers, and the names of files that belong to none.

    Raises:
        CorpusError: embeddings_layout (a side or a shard is missing), source_empty, or what its files are refused for.
    """
    ignored: list[str] = []
    present = [folder for folder in _SUFFIX if (root / folder).is_dir()]
    _check_sides(root, present)
    files = {folder: _numbered(root / folder, _SUFFIX[folder], ignored) for folder in present}
    if not files[IMAGES] and not files[TEXTS]:
        raise CorpusError("source_empty", f"{root / IMAGES} and {root / TEXTS} hold no .npy file.")
    for folder in present:
        _check_numbers(root / IMAGES, files[IMAGES], root / folder, files[folder])
    shards = []
    for number, path in sorted(files[IMAGES].items()):
        metadata = MetadataFile(files[METADATA][number], options) if METADATA in files else None
        shards.append(NpyShard(name, NpyFile(path), NpyFile(files[TEXTS][number]), metadata))
    return shards, ignored


def _check_sides(root: Path, present: Iterable[str]) -> None:
    missing = [folder for folder in (IMAGES, TEXTS) if folder not in present]
    if len(missing) == 1:
        flag = "--enable_text" if missing == [TEXTS] else "--enable_image"
        raise CorpusError(
            "embeddings_layout",
            f"{root} has no folder {missing[0]}: a memory needs both sides of each pair. Run clip-retrieval inference "
            f"again with {flag} True.",
        )
    if missing:
        archives = sorted(entry.name for entry in root.iterdir() if entry.suffix.lower() == ".npz")
        hint = f" It holds {readable(archives[0])}: name the file itself." if archives else ""
        raise CorpusError(
            "embeddings_layout",
            f"{root} holds neither {IMAGES} nor {TEXTS}. Expected is what clip-retrieval writes: {IMAGES}/*.npy, "
            f"{TEXTS}/*.npy and {METADATA}/*.parquet; or a single .npz with image and text.{hint} A folder of images "
            f"is encoded with: reco build {shlex.quote(str(root))}",
        )


def _numbered(folder: Path, suffix: str, ignored: list[str]) -> dict[int, Path]:
    """The files of a folder by the number that ends their names."""
    found: dict[int, Path] = {}
    try:
        paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise CorpusError("source_unreadable", f"{folder} cannot be listed: {error.strerror}.") from error
    for path in paths:
        if path.suffix.lower() != suffix:
            ignored.append(readable(f"{folder.name}/{path.name}"))
            continue
        number = _NUMBER.search(path.stem)
        if number is None:
            raise CorpusError(
                "embeddings_layout",
                f"{path} has no number at the end of its name, by which the files of {IMAGES}, {TEXTS} and {METADATA} "
                f"are paired: rename it like {folder.name}_0{suffix}.",
            )
        other = found.setdefault(int(number[0]), path)
        if other != path:
            raise CorpusError("embeddings_layout", f"{other} and {path} have the same number: rename one.")
    return found


def _check_numbers(folder: Path, files: dict[int, Path], other_folder: Path, others: dict[int, Path]) -> None:
    alone = sorted(files.keys() ^ others.keys())
    if alone:
        here, there = (folder, other_folder) if alone[0] in files else (other_folder, folder)
        path = (files if alone[0] in files else others)[alone[0]]
        raise CorpusError(
            "embeddings_layout",
            f"{there} has no file of number {alone[0]}, and {here} has {path.name}: every shard needs a file in each "
            "folder. Copy the missing one, or take the other away.",
        )
