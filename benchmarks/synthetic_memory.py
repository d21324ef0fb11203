"""A memory of random pairs in clusters, written in blocks: for benchmarks that need many rows and no meaning."""

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from memory import (
    ITEMS_SCHEMA,
    MODALITIES,
    Contents,
    IndexOptions,
    Memory,
    Rows,
    UnitRecord,
    build_index,
    publish,
    undeclared_encoder,
    write_segment,
)

_BLOCK = 50_000


def write_clustered(
    root: Path, pairs: int, embed_dim: int, *, spread: float = 1.0, options: IndexOptions | None = None
) -> Memory:
    """`pairs` pairs around max(100, pairs / 100) centres; cosine within a cluster is about 1 / (1 + spread²)."""
    dice = np.random.default_rng(0)
    centres = [dice.standard_normal((max(100, pairs // 100), embed_dim), dtype=np.float32) for _ in MODALITIES]
    parts = []
    for start in range(0, pairs, _BLOCK):
        count = min(_BLOCK, pairs - start)
        chosen = dice.integers(0, len(centres[0]), count)
        image, text = (_around(centre[chosen], spread, dice) for centre in centres)
        numbers = range(start, start + count)
        columns = {
            "key": [f"pair-{number}" for number in numbers],
            "caption": [f"a caption of cluster {one}" for one in chosen],
            "source": ["synthetic"] * count,
            "content_sha256": [hashlib.sha256(str(number).encode()).hexdigest() for number in numbers],
            "thumbnail": [None] * count,
        }
        parts.append(Rows(image, text, pa.table(columns, schema=ITEMS_SCHEMA)))
    segments = (write_segment(root, parts, [UnitRecord("synthetic", pairs)]),)
    contents = Contents(
        encoder=undeclared_encoder("synthetic", embed_dim),
        encoded_with={"device": "cpu", "dtype": "float32"},
        segments=segments,
        indexes={modality: build_index(root, segments, modality, options=options) for modality in MODALITIES},
    )
    publish(root, contents)
    return Memory.open(root)


def _around(centres: NDArray[np.float32], spread: float, dice: np.random.Generator) -> NDArray[np.float16]:
    rows = centres + spread * dice.standard_normal(centres.shape, dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows.astype(np.float16)
