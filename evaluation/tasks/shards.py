"""The folder that clip-retrieval writes, as a retrieval: image row i belongs to text row i. Read by memory_builder."""

from collections import Counter
from pathlib import Path

import numpy as np

from evaluation.retrieval import RetrievalTask
from evaluation.tasks.task import EvalTask, embeddings, invalid
from memory_builder.embeddings import open_source
from memory_builder.readers import ReaderOptions
from memory_builder.records import Rejected

_PIECE_ROWS = 65_536


def read_shards(path: Path) -> EvalTask:
    """Read a task.

    Raises:
        CorpusError: the files cannot be read or do not fit together.
        EvaluationError: task_invalid.
    """
    reader = open_source(path, ReaderOptions())
    images, texts = list[np.ndarray](), list[np.ndarray]()
    captions, keys, rejected = list[str](), list[str](), Counter[str]()
    for piece in reader.pieces(_PIECE_ROWS):
        for block in reader.read(piece):
            usable = np.array([not isinstance(pair, Rejected) for pair in block.pairs], dtype=np.bool_)
            images.append(block.image[usable])
            texts.append(block.text[usable])
            for pair in block.pairs:
                if isinstance(pair, Rejected):
                    rejected[pair.code] += 1
                    continue
                captions.append(pair.caption or pair.key)
                keys.append(pair.key)
    if len(keys) < 2:
        raise invalid(path.name, f"{len(keys)} of its rows can be used: a retrieval needs at least two")
    image = embeddings(np.concatenate(images), "img_emb", path.name)
    text = embeddings(np.concatenate(texts), "text_emb", path.name)
    return EvalTask(reader.name, RetrievalTask(image, text, np.arange(len(keys))), captions, keys, rejected=rejected)
