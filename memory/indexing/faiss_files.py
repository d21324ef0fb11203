"""Files of an index: writing and opening them, and whether a shard is of the rows of its segment.

A shard of lists holds the lists only; its coarse quantiser is that of `trained.faiss`, lent to it when it is opened.
Shapes: N rows of a shard, D embedding dimension.
"""

from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from memory.errors import ShardInvalid
from memory.format.durable import HashingWriter, Written, write_file
from memory.format.families import Family
from memory.format.rows import BLOCK_ROWS
from memory.indexing.kernels import faiss

NUM_PROBES: Final = 16
# How far the similarity of a row to its own 1-bit code may be from 1: this over √D, as RaBitQ's error falls.
_BIT_ERROR: Final = 4.0
_PROBED_LISTS: Final = 8  # a row lies in the nearest list, but for rounding, as on another processor
# `search_lists` would leave a batch to one thread: FAISS cuts it into slices in the call that is not used here.
_THREADS_SHARE_QUERIES: Final = 3


class Trained(NamedTuple):
    """An opened `trained.faiss`, taken apart; keep `whole`, which owns the others.

    Attributes:
        whole: as FAISS's factory made it.
        rotation: a FAISS vector transform, or None.
        lists: the empty IVF; None for an exact index.
    """

    whole: Any
    rotation: Any | None
    lists: Any | None

    def rotate(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Rows as the lists know them, (n, D) to (n, D)."""
        if self.rotation is None:
            return rows
        rotated: NDArray[np.float32] = self.rotation.apply(rows)
        return rotated


def take_apart(index: Any) -> Trained:
    """The parts of an index that a factory made, or that was read from `trained.faiss`."""
    if isinstance(index, faiss.IndexPreTransform):
        lists = faiss.downcast_index(index.index)
        return Trained(index, faiss.downcast_VectorTransform(index.chain.at(0)), lists)
    return Trained(index, None, index if isinstance(index, faiss.IndexIVF) else None)


def write_faiss(path: Path, index: Any) -> Written:
    """Write an index durably, and hash it on the way."""
    return write_file(path, partial(_stream, index))


def write_lists(path: Path, shard: Any, trained: Trained) -> Written:
    """Write a shard of lists without its quantiser, which `trained.faiss` holds once for all."""
    shard.quantizer, shard.own_fields = faiss.IndexFlatIP(shard.d), True
    try:
        return write_faiss(path, shard)
    finally:
        lend_quantiser(shard, trained)


def lend_quantiser(shard: Any, trained: Trained) -> None:
    """Let a shard use the coarse quantiser of `trained`, which has to outlive it, in the place of its own."""
    assert trained.lists is not None, "an exact index has no quantiser"
    # Its own keeps the file mapped that it was read from. FAISS deletes it with what holds it; Python's way to do so,
    # `thisown`, ends in a crash (1.15.1).
    holder = faiss.IndexPreTransform(shard.quantizer)
    holder.own_fields = shard.own_fields
    shard.own_fields = False
    shard.quantizer = trained.lists.quantizer


def open_trained(path: Path, family: Family) -> Trained:
    """Map `trained.faiss`, whose size and hash were checked before.

    Raises:
        ShardInvalid: another type, D, metric or number of lists than the family's, or it holds rows.
    """
    trained = take_apart(_read(path))
    if family.is_exact:
        _check(path, trained.whole, family, rows=0)
        return trained
    lists = trained.lists
    if lists is None:
        raise ShardInvalid(path, f"is a {type(trained.whole).__name__}, expected {family.faiss_class}")
    if "RR" in family.factory and not isinstance(trained.rotation, faiss.RandomRotationMatrix):
        raise ShardInvalid(path, "has no rotation before its lists")
    _check(path, lists, family, rows=0)
    found = (trained.whole.d, trained.whole.ntotal, lists.quantizer.d, lists.quantizer.ntotal, lists.is_trained)
    expected = (family.embed_dim, 0, family.embed_dim, family.lists, True)
    if found != expected:
        raise ShardInvalid(path, f"its (D, rows, D of centroids, centroids, trained) is {found}, expected {expected}")
    return trained


def open_shard(path: Path, family: Family, trained: Trained, *, rows: int) -> Any:
    """Map a shard, whose size and hash were checked before; read it where FAISS cannot map it.

    Raises:
        ShardInvalid: not of this family, or another D, metric or number of rows.
    """
    index = _read(path)
    _check(path, index, family, rows=rows)
    if not family.is_exact:
        lend_quantiser(index, trained)
        index.parallel_mode = _THREADS_SHARE_QUERIES
    return index


def check_rows(
    path: Path, shard: Any, trained: Trained, embeddings: NDArray[np.float16], *, probes: int | None = NUM_PROBES
) -> None:
    """Check that a shard holds the rows of its segment.

    Args:
        path: of the shard, for what is told.
        shard: opened.
        trained: what it was opened with.
        embeddings: (N, D) float16 rows of the segment.
        probes: how many rows to compare, spread evenly; None compares all.

    Raises:
        ShardInvalid: a row differs, is missing or is there twice.
    """
    if trained.lists is None:
        _check_same(path, shard, embeddings, probes)
    elif probes is None:
        _check_lists(path, shard, trained, embeddings)
    else:
        rows = np.unique(np.linspace(0, len(embeddings) - 1, probes).astype(np.int64))
        _check_probes(path, shard, trained, embeddings[rows].astype(np.float32), rows)


def _check_same(path: Path, shard: Any, embeddings: NDArray[np.float16], probes: int | None) -> None:
    """An exact shard holds the very rows."""
    rows = len(embeddings)
    if probes is None:
        blocks = [(start, min(BLOCK_ROWS, rows - start)) for start in range(0, rows, BLOCK_ROWS)]
    else:
        blocks = [(int(row), 1) for row in np.unique(np.linspace(0, rows - 1, probes).astype(np.int64))]
    for start, count in blocks:
        held = shard.reconstruct_n(start, count)
        if not np.array_equal(held, embeddings[start : start + count].astype(np.float32)):
            raise ShardInvalid(path, f"rows {start} to {start + count - 1} are not those of its segment")


def _check_probes(
    path: Path, shard: Any, trained: Trained, vectors: NDArray[np.float32], rows: NDArray[np.int64]
) -> None:
    rotated = trained.rotate(vectors)
    _, nearest = shard.quantizer.search(rotated, min(_PROBED_LISTS, shard.nlist))
    for vector, row, candidates in zip(rotated, rows.tolist(), nearest.tolist(), strict=True):
        numbers = chain(candidates, range(shard.nlist))  # where few rows differ, far more lists than these lie as near
        places = ((number, np.flatnonzero(list_rows(shard, number) == row)) for number in numbers)
        number, at = next(((number, at) for number, at in places if at.size), (-1, np.empty(0, dtype=np.int64)))
        if not at.size or not _agree(shard, number, at[:1], vector[None])[0]:
            raise ShardInvalid(path, f"row {row} is not that of its segment")


def _check_lists(path: Path, shard: Any, trained: Trained, embeddings: NDArray[np.float16]) -> None:
    seen = np.zeros(len(embeddings), dtype=np.bool_)
    for number in range(shard.nlist):
        rows = list_rows(shard, number)
        twice = len(np.unique(rows)) < len(rows)
        if rows.size and (twice or rows.min() < 0 or rows.max() >= len(embeddings) or seen[rows].any()):
            raise ShardInvalid(path, f"list {number} names rows twice, or rows that its segment does not have")
        seen[rows] = True
        vectors = trained.rotate(embeddings[rows].astype(np.float32)) if rows.size else np.empty((0, shard.d), "f4")
        wrong = np.flatnonzero(~_agree(shard, number, np.arange(len(rows)), vectors))
        if wrong.size:
            raise ShardInvalid(path, f"row {rows[wrong[0]]} is not that of its segment")
    if not seen.all():
        raise ShardInvalid(path, f"row {int(np.flatnonzero(~seen)[0])} of its segment is in no list")


def _agree(shard: Any, number: int, offsets: NDArray[np.int64], vectors: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether what a list holds at some offsets (n,) are codes of the vectors (n, D), which are of unit norm."""
    if isinstance(shard, faiss.IndexIVFScalarQuantizer):
        return _same_codes(shard, number, offsets, vectors)
    # reconstruct() of 1-bit codes keeps too little, and is wrong for the SIMD layout (1.15.1): a search tells
    rows = list_rows(shard, number)[offsets]
    nearness = vectors @ shard.quantizer.reconstruct(number)
    coarse = np.full((len(vectors), 1), number, dtype=np.int64), nearness[:, None]
    codes, found = search_lists(shard, vectors, coarse, max(1, shard.invlists.list_size(number)))
    own = found == rows[:, None]
    similarities = codes[np.arange(len(rows)), own.argmax(axis=1)]
    agree: NDArray[np.bool_] = own.any(axis=1) & (np.abs(similarities - 1) <= _BIT_ERROR / shard.d**0.5)
    return agree  # NaN is no agreement


def _same_codes(shard: Any, number: int, offsets: NDArray[np.int64], vectors: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether 8-bit codes are those that encoding gives, to the last step: rounding differs between processors."""
    size, width = shard.invlists.list_size(number), shard.code_size
    made = np.empty((len(vectors), width), dtype=np.uint8)
    if not size:
        return np.zeros(len(vectors), dtype=np.bool_)
    held = shard.invlists.get_codes(number)
    try:
        codes = faiss.rev_swig_ptr(held, size * width).reshape(size, width)[offsets].astype(np.int16)
    finally:
        shard.invlists.release_codes(number, held)
    lists, vectors = np.full(len(vectors), number, dtype=np.int64), np.ascontiguousarray(vectors)
    shard.encode_vectors(len(vectors), faiss.swig_ptr(vectors), faiss.swig_ptr(lists), faiss.swig_ptr(made))
    same: NDArray[np.bool_] = (np.abs(codes - made) <= 1).all(axis=1)
    return same


def search_lists(
    shard: Any,
    rotated: NDArray[np.float32],
    coarse: tuple[NDArray[np.int64], NDArray[np.float32]],
    count: int,
    selector: Any | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The best codes of a shard in lists that are chosen already.

    Args:
        shard: opened.
        rotated: (B, D) float32 queries, as `Trained.rotate` gives them.
        coarse: numbers of lists and similarities to their centroids, both (B, P).
        count: C.
        selector: FAISS selector of rows; None selects all.

    Returns:
        Approximate similarities and row numbers, both (B, C); row -1 where there are fewer.
    """
    lists, similarities = coarse
    num_queries, nprobe = lists.shape
    codes = np.empty((num_queries, count), dtype=np.float32)
    rows = np.empty((num_queries, count), dtype=np.int64)
    chosen = {} if selector is None else {"sel": selector}
    rotated, similarities = np.ascontiguousarray(rotated), np.ascontiguousarray(similarities)  # and kept till the end
    # FAISS's own wrapper of this call refuses parameters and takes nprobe from the index (1.15.1).
    shard.search_preassigned_c(
        num_queries,
        faiss.swig_ptr(rotated),
        count,
        faiss.swig_ptr(lists),
        faiss.swig_ptr(similarities),
        faiss.swig_ptr(codes),
        faiss.swig_ptr(rows),
        False,
        faiss.SearchParametersIVF(nprobe=nprobe, **chosen),
    )
    return codes, rows


def list_rows(shard: Any, number: int) -> NDArray[np.int64]:
    """Row numbers in one list of a shard, (n,), copied."""
    size = shard.invlists.list_size(number)
    if not size:
        return np.empty(0, dtype=np.int64)
    held = shard.invlists.get_ids(number)
    try:
        rows: NDArray[np.int64] = faiss.rev_swig_ptr(held, size).copy()
    finally:
        shard.invlists.release_ids(number, held)
    return rows


def _read(path: Path) -> Any:
    try:
        # IO_FLAG_MMAP quietly reads a scalar quantiser into memory; this flag maps it (0 anonymous bytes,
        # 1.15.1).
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except (RuntimeError, MemoryError) as error:
        raise ShardInvalid(path, "FAISS cannot read it") from error


def _check(path: Path, index: Any, family: Family, *, rows: int) -> None:
    if type(index).__name__ != family.faiss_class:
        raise ShardInvalid(path, f"is a {type(index).__name__}, expected {family.faiss_class}")
    found = [index.d, index.ntotal, index.metric_type]
    expected = [family.embed_dim, rows, faiss.METRIC_INNER_PRODUCT]
    if hasattr(index, "sq"):
        found.append(index.sq.qtype)
        expected.append(faiss.ScalarQuantizer.QT_fp16 if family.is_exact else faiss.ScalarQuantizer.QT_8bit)
    if not family.is_exact:
        found.append(index.nlist)
        expected.append(family.lists)
    if found != expected:
        raise ShardInvalid(path, f"its (D, rows, metric, …) is {found}, expected {expected}")


def _stream(index: Any, stream: HashingWriter) -> None:
    # faiss.write_index(name) truncates the final name, never fsyncs, and leaves a partial file when the
    # disk fills. No BufferedIOWriter in between: it writes its rest in a destructor, where an error would
    # end the process.
    faiss.write_index(index, faiss.PyCallbackIOWriter(stream.write))
