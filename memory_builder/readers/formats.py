"""Which reader a path needs; a format that is not read is refused by name. Imports the readers."""

from pathlib import Path

from memory_builder.corpora import corpus_name
from memory_builder.errors import CorpusError
from memory_builder.readers.folder import FolderReader
from memory_builder.readers.reader import Reader, ReaderOptions
from memory_builder.readers.table import TABLE_EXTENSIONS, TableReader
from memory_builder.readers.webdataset import WebDatasetReader
from memory_builder.records import Row

_READ = (
    "Read are: a folder of images with captions beside them (a.jpg, a.txt); a .csv, .tsv or .jsonl table "
    "with a path and a caption column; .tar files in WebDataset form."
)
_REFUSED = {
    ".parquet": "Parquet is not read. Export it as .jsonl with a path and a caption column.",
    ".arrow": "Arrow files are not read. Export them as .jsonl with a path and a caption column.",
    ".json": "A single JSON document is not read. Write one object a line and name the file .jsonl.",
    ".zip": "Zip archives are not read. Unpack it and give the folder.",
    ".gz": "Compressed files are not read. Decompress it first.",
    ".tgz": "Compressed tars are not read. Decompress it to a .tar first.",
    ".bz2": "Compressed files are not read. Decompress it first.",
    ".xz": "Compressed files are not read. Decompress it first.",
    ".zst": "Compressed files are not read. Decompress it first.",
}


def open_reader(path: Path, options: ReaderOptions) -> Reader[Row]:
    """The reader for a path, by what it is and how it is named.

    Raises:
        CorpusError: corpus_format_unknown, or what the reader itself refuses at once.
    """
    name = corpus_name(path)
    if path.is_dir():
        return FolderReader(path, name, options)
    suffix = path.suffix.lower()
    if not path.is_file():
        raise CorpusError("corpus_format_unknown", f"{path} is neither a folder nor a regular file. {_READ}")
    if suffix == ".tar":
        return WebDatasetReader(path, name, options)
    if suffix in TABLE_EXTENSIONS:
        return TableReader(path, name, options)
    why = _REFUSED.get(suffix, f"The format {suffix or 'without extension'} is not known.")
    raise CorpusError("corpus_format_unknown", f"{path}: {why} {_READ}")
