"""Cached embeddings as a source: what other programs computed, taken over without a model. numpy and pyarrow.

One file per format. A source is a list of shards; its reader cuts them into pieces, as readers/ does with a corpus, and
gives blocks of rows that are encoded already.
"""

from memory_builder.embeddings.formats import open_source
from memory_builder.embeddings.importer import Importer
from memory_builder.embeddings.origin import Origin
from memory_builder.embeddings.reader import EmbeddingsReader

__all__ = ["EmbeddingsReader", "Importer", "Origin", "open_source"]
