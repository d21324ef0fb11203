"""Which reader a path needs; a format that is not read is refused by name. Imports the readers."""

from collections.abc import Sequence
from pathlib import Path

from memory_builder.errors import ConfigError, CorpusError
from memory_builder.readers.arrow_files import ArrowReader, saved_dataset
from memory_builder.readers.corpora import corpus_name
from memory_builder.readers.folder import FolderReader
from memory_builder.readers.parquet import ParquetReader
from memory_builder.readers.reader import Reader, ReaderOptions
from memory_builder.readers.source import Source
from memory_builder.readers.table import TABLE_EXTENSIONS, TableReader
from memory_builder.readers.webdataset import WebDatasetReader
from memory_builder.records import Row

_READ = (
    "Read are: a folder of images with captions beside them (a.jpg, a.txt); .tar files in WebDataset form; a .csv, "
    ".tsv or .jsonl table with a path and a caption column; .parquet and .arrow files with images or paths, and "
    "captions; a folder that Hugging Face's save_to_disk wrote."
)
_REFUSED = {
    ".npy": "It holds embeddings, not images. Name the folder that has img_emb/ and text_emb/ with --embeddings.",
    ".npz": "It holds embeddings, not images. Name it with --embeddings.",
    ".json": "A single JSON document is not read. Write one object a line and name the file .jsonl.",
    ".zip": "Zip archives are not read. Unpack it and give the folder.",
    ".gz": "Compressed files are not read. Decompress it first.",
    ".tgz": "Compressed tars are not read. Decompress it to a .tar first.",
    ".bz2": "Compressed files are not read. Decompress it first.",
    ".xz": "Compressed files are not read. Decompress it first.",
    ".zst": "Compressed files are not read. Decompress it first.",
}


def check_options(sources: Sequence[Source], options: ReaderOptions) -> None:
    """Refuse captions made of folders' names where there are sources and none is a folder, and columns if no table is.

    Raises:
        ConfigError: then.
    """
    asked = [name for name in ("image_columns", "caption_column", "key_column") if getattr(options, name)]
    if asked and sources and not any(map(_has_columns, sources)):
        raise ConfigError(
            f"{' and '.join(asked)} name columns of tables (.csv, .tsv, .jsonl, .parquet, .arrow), and none of the "
            "corpora is one: leave them out."
        )
    if options.folder_templates and sources and not any(Path(str(one)).is_dir() for one in sources):
        raise ConfigError(
            "caption_from_folder is for folders of images, and none of the corpora is one: in a table name the column "
            "with --caption-column, and in a tar put a .txt beside each image."
        )


def check_template(path: Source, options: ReaderOptions) -> None:
    """Refuse captions made of columns for a source that has none.

    Raises:
        CorpusError: table_columns, or what is told of a saved dataset.
    """
    if options.caption_templates is None:
        return
    is_folder = isinstance(path, Path) and path.is_dir()
    if path.suffix.lower() == ".tar" or (is_folder and not _has_columns(path)):
        instead = "; for captions of its folders' names there is --caption-from-folder" if is_folder else ""
        raise CorpusError(
            "table_columns",
            f"{path} has no columns, of which --caption-template would make captions. Build from it without, in a "
            f"command of its own: the memory grows{instead}.",
        )


def _has_columns(path: Source) -> bool:
    if isinstance(path, Path) and path.is_dir():
        return saved_dataset(path) is not None
    return path.suffix.lower() in (*TABLE_EXTENSIONS, ".parquet", ".arrow")


def open_reader(path: Source, options: ReaderOptions) -> Reader[Row]:
    """The reader for a source, by what it is and how it is named.

    Raises:
        CorpusError: corpus_format_unknown, or what the reader itself refuses at once.
    """
    check_template(path, options)
    name = corpus_name(path)
    suffix = path.suffix.lower()
    if isinstance(path, Path) and path.is_dir():
        return _open_folder(path, name, options)
    if isinstance(path, Path) and not path.is_file():
        raise CorpusError("corpus_format_unknown", f"{path} is neither a folder nor a regular file. {_READ}")
    if suffix == ".tar":
        return WebDatasetReader(path, name, options)
    if suffix in TABLE_EXTENSIONS:
        return TableReader(path, name, options)
    if suffix == ".parquet":
        return ParquetReader(path, name, options)
    if suffix == ".arrow" and isinstance(path, Path):
        return ArrowReader([path], name, options)
    if suffix == ".arrow":
        raise CorpusError("corpus_format_unknown", f"{path}: Arrow files are read from a disk. Copy it here first.")
    why = _REFUSED.get(suffix, f"The format {suffix or 'without extension'} is not known.")
    raise CorpusError("corpus_format_unknown", f"{path}: {why} {_READ}")


def _open_folder(path: Path, name: str, options: ReaderOptions) -> Reader[Row]:
    if (path / "img_emb").is_dir() or (path / "text_emb").is_dir():
        raise CorpusError("corpus_format_unknown", f"{path} holds embeddings, not images: name it with --embeddings.")
    files = saved_dataset(path)
    return FolderReader(path, name, options) if files is None else ArrowReader(files, name, options)
