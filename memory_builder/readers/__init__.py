"""A folder, a tar, a table or a dataset as rows. pyarrow for its own files, else the standard library.

Nothing is decoded, extracted or followed.

One file per format; corpora.py finds the sources that the command line names. A reader scans its source into pieces
(what there is) and reads a piece as rows (what it holds).
"""

from memory_builder.readers.formats import open_reader
from memory_builder.readers.reader import Piece, Reader, ReaderOptions

__all__ = ["Piece", "Reader", "ReaderOptions", "open_reader"]
