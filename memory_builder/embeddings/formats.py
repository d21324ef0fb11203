"""Which embeddings a path holds; a format that is not read is refused by name. Imports the formats."""

from pathlib import Path

from memory_builder.embeddings.npz import NpzShard
from memory_builder.embeddings.reader import EmbeddingsReader
from memory_builder.embeddings.shards import find_shards
from memory_builder.errors import CorpusError
from memory_builder.readers.corpora import corpus_name
from memory_builder.readers.reader import ReaderOptions

_READ = (
    "Read are: a folder with img_emb/*.npy, text_emb/*.npy and metadata/*.parquet, as clip-retrieval writes it, and a "
    "single .npz with image and text."
)
_ONE_SIDE = "It is one array, and a memory needs an image and a text for each row. "
_TENSORS = "It may be a pickle, which is never read. Save the arrays with numpy.savez(path, image=..., text=...). "
_REFUSED = {
    ".npy": _ONE_SIDE,
    ".parquet": "It is metadata without embeddings, or embeddings in a form that is not read: name the folder. ",
    ".pt": _TENSORS,
    ".pth": _TENSORS,
    ".pkl": _TENSORS,
    ".pickle": _TENSORS,
    ".safetensors": "Save its tensors with numpy.savez(path, image=..., text=...). ",
    ".h5": "Save its arrays with numpy.savez(path, image=..., text=...). ",
    ".hdf5": "Save its arrays with numpy.savez(path, image=..., text=...). ",
    ".tar": "It holds images, not embeddings: encode it with `reco build` and its path, without --embeddings. ",
    ".csv": "It is a table, not embeddings: encode it with `reco build` and its path, without --embeddings. ",
    ".tsv": "It is a table, not embeddings: encode it with `reco build` and its path, without --embeddings. ",
    ".jsonl": "It is a table, not embeddings: encode it with `reco build` and its path, without --embeddings. ",
}


def open_source(path: Path, options: ReaderOptions) -> EmbeddingsReader:
    """The reader for a folder or file of cached embeddings.

    Raises:
        CorpusError: corpus_format_unknown, or what the format itself refuses at once.
    """
    name = corpus_name(path)
    asked = {"caption_column": options.caption_column or "", "key_column": options.key_column or ""}
    if path.is_dir():
        shards, ignored = find_shards(path, name, options)
        return EmbeddingsReader(name, shards, asked, ignored)
    if path.suffix.lower() == ".npz" and path.is_file():
        return EmbeddingsReader(name, [NpzShard(path, name)], {})
    why = _REFUSED.get(path.suffix.lower(), "")
    raise CorpusError("corpus_format_unknown", f"{path} is not read as embeddings. {why}{_READ}")
