"""Memories of random pairs, for benchmarks and long tests that need many rows and no meaning."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
    build_indexes,
    publish,
    undeclared_encoder,
    write_segment,
)
from models.encoder import Encoder

_BLOCK = 50_000


def write_clustered(
    root: Path, pairs: int, embed_dim: int, *, spread: float = 1.0, options: IndexOptions | None = None
) -> Memory:
    """`pairs` pairs around max(100, pairs / 100) centres; cosine within a cluster is about 1 / (1 + spread²)."""
    dice = np.random.default_rng(0)
    centres = [dice.standard_normal((max(100, pairs // 100), embed_dim), dtype=np.float32) for _ in MODALITIES]
    parts = []
    for start in range(0, pairs, _BLOCK):
        numbers = range(start, min(start + _BLOCK, pairs))
        chosen = dice.integers(0, len(centres[0]), len(numbers))
        image, text = (_around(centre[chosen], spread, dice) for centre in centres)
        keys = [f"pair-{number}" for number in numbers]
        parts.append(rows_of(keys, [f"a caption of cluster {one}" for one in chosen], image, text))
    segments = (write_segment(root, parts, [UnitRecord("synthetic", pairs)]),)
    contents = Contents(
        encoder=undeclared_encoder("synthetic", embed_dim),
        encoded_with={"device": "cpu", "dtype": "float32"},
        segments=segments,
        indexes={modality: build_index(root, segments, modality, options=options) for modality in MODALITIES},
    )
    publish(root, contents)
    return Memory.open(root)


def write_random(root: Path, encoder: Encoder, pairs: int) -> None:
    """Version 1 of a memory of `encoder`: random pairs."""
    keys = [f"pair-{number}" for number in range(pairs)]
    images, texts = (random_units(pairs, encoder.embed_dim, seed) for seed in (0, 1))
    segments = (write_segment(root, [rows_of(keys, keys, images, texts)], [UnitRecord("random", pairs)]),)
    made_by = {"encoder": encoder.fingerprint.record(), "encoded_with": encoder.fingerprint.encoded_with()}
    publish(root, Contents(**made_by, segments=segments, indexes=build_indexes(root, segments)))


def rows_of(keys: Sequence[str], captions: Sequence[str], images: NDArray[Any], texts: NDArray[Any]) -> Rows:
    """Pairs as the memory takes them: images and texts (N, D) unit norm."""
    columns = {
        "key": keys,
        "caption": captions,
        "source": ["synthetic"] * len(keys),
        "content_sha256": [
            hashlib.sha256(f"{key}\0{caption}".encode()).hexdigest()
            for key, caption in zip(keys, captions, strict=True)
        ],
        "thumbnail": [None] * len(keys),
    }
    return Rows(images.astype(np.float16), texts.astype(np.float16), pa.table(columns, schema=ITEMS_SCHEMA))


def random_units(count: int, embed_dim: int, seed: int) -> NDArray[np.float32]:
    """(count, D) float32 of unit norm."""
    rows = np.random.default_rng(seed).standard_normal((count, embed_dim), dtype=np.float32)
    units: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return units


def _around(centres: NDArray[np.float32], spread: float, dice: np.random.Generator) -> NDArray[np.float16]:
    rows = centres + spread * dice.standard_normal(centres.shape, dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows.astype(np.float16)
