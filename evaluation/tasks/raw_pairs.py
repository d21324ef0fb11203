"""Raw pairs as a retrieval task: which rows show one image, each image encoded once. Shapes: N images, M texts."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from evaluation.retrieval import RetrievalTask
from evaluation.tasks.encoding import Report, encode_texts, encode_usable
from evaluation.tasks.task import EvalTask, invalid
from memory_builder.readers.corpora import corpus_name
from memory_builder.records import Record, RowRejected
from models.encoder import Encoder
from models.errors import TextError
from models.texts.checking import check_text


def pairs_task(path: Path, records: list[Record], rejected: Counter[str], encoder: Encoder, report: Report) -> EvalTask:
    """Encode the rows of a corpus as a retrieval task.

    Args:
        rejected: of the reading, by code; those of the encoding are added, a row at a time.

    Raises:
        EvaluationError: task_invalid, nothing_usable.
        EncoderError: the encoder answered with something unusable.
    """
    usable = []
    for record in records:
        try:
            caption = check_text(record.caption)
            encoder.tokenize([caption])  # which may know control tokens that check_text does not
            usable.append(Record(record.key, caption, record.image, record.source))
        except TextError as error:
            rejected[error.code] += 1
    pictures = _pictures(usable)
    rows_of = Counter(pictures)
    first = dict(zip(reversed(pictures), reversed(usable), strict=True))  # of each the first row
    distinct = list(dict.fromkeys(pictures))
    images = encode_usable(path, [first[picture] for picture in distinct], encoder, report)
    for row, code in images.rejected_rows.items():
        rejected[code] += rows_of[distinct[row]]
    position = {distinct[row]: place for place, row in enumerate(images.kept)}
    captions = [record.caption for record, picture in zip(usable, pictures, strict=True) if picture in position]
    pair = np.array([position[picture] for picture in pictures if picture in position], dtype=np.int64)
    if len(images.kept) < 2:
        raise invalid(str(path), "one image can be used: a retrieval needs at least two")
    texts = encode_texts(captions, encoder, report)
    return EvalTask(
        name=corpus_name(path),
        task=RetrievalTask(images.embeddings, texts, pair),
        text_names=captions,
        image_names=[first[distinct[row]].source for row in images.kept],
        thumbnails=images.thumbnails,
        rejected=rejected,
    )


def _pictures(records: Sequence[Record]) -> list[tuple[str, bytes]]:
    """What each row shows: rows of one key with equal bytes are captions of one image, which is encoded once.

    A key comes from a path without its extension, so that a.png and a.jpg have one key.
    """
    rows_of = Counter(record.key for record in records)
    return [(record.key, _content(record) if rows_of[record.key] > 1 else b"") for record in records]


def _content(record: Record) -> bytes:
    try:
        return hashlib.sha256(record.image()).digest()
    except RowRejected:
        return b""  # the encoding says why
