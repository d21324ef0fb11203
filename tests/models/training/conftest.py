"""A small memory in which names mean nothing to the encoder: what training must learn to look up.

`NUM_CLASSES` classes; an image shows its class, a caption names it by a random vector that images know nothing of.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import memory

D, NUM_CLASSES, PAIRS_PER_CLASS = 128, 30, 8


def near(centres: np.ndarray, noise: float, dice: np.random.Generator) -> np.ndarray:
    rows = centres + noise * dice.standard_normal(centres.shape) / np.sqrt(D)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def pairs(seed: int, per_class: int = PAIRS_PER_CLASS) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images (N, D), texts (N, D) and classes (N,), of the one fixed world and a seed of their own."""
    world = np.random.default_rng(0)
    looks, names = world.standard_normal((2, NUM_CLASSES, D))
    looks, names = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (looks, names))
    classes = np.repeat(np.arange(NUM_CLASSES), per_class)
    dice = np.random.default_rng(seed)
    return near(looks[classes], 0.7, dice), near(names[classes], 0.7, dice), classes


def write_memory(
    root: Path,
    image: np.ndarray,
    text: np.ndarray,
    *,
    keys: list[str],
    captions: list[str],
    contents: list[str] | None = None,
    sources: list[str] | None = None,
) -> memory.Memory:
    """A memory of embeddings (N, D); `contents` stand for the bytes of the images, the keys by default."""
    items = pa.table(
        {
            "key": keys,
            "caption": captions,
            "source": sources or keys,
            "content_sha256": [hashlib.sha256(one.encode()).hexdigest() for one in contents or keys],
            "thumbnail": [None] * len(keys),
        },
        schema=memory.ITEMS_SCHEMA,
    )
    rows = memory.Rows(image.astype(np.float16), text.astype(np.float16), items)
    record = memory.write_segment(root, [rows], [memory.UnitRecord("unit", len(keys))])
    dim = image.shape[1]
    probes = np.eye(dim)[:2].tolist()
    encoder = {
        "architecture": "tiny",
        "weights_sha256": "ab" * 32,
        "preprocessing": {"size": 32},
        "tokenizer": {"kind": "simple", "sha256": "cd" * 32, "context_length": 16},
        "embed_dim": dim,
        "probes": {"image": probes, "text": probes},
    }
    memory.publish(
        root,
        memory.Contents(
            encoder=encoder,
            encoded_with={"device": "cpu", "dtype": "float32"},
            segments=(record,),
            indexes={side: memory.build_index(root, [record], side) for side in memory.MODALITIES},
        ),
    )
    return memory.Memory.open(root)


@pytest.fixture(scope="session")
def make_memory() -> Callable[..., memory.Memory]:
    """`write_memory`, for tests that need a memory of their own."""
    return write_memory


@pytest.fixture(scope="session")
def named_memory(tmp_path_factory: pytest.TempPathFactory) -> memory.Memory:
    """8 pairs for each of 30 classes; keys are `class/number`; item 5 is a copy of item 4's image."""
    image, text, classes = pairs(seed=1)
    image[5] = image[4]
    keys = [f"{one:02d}/{number}" for number, one in enumerate(classes)]
    contents = keys.copy()
    contents[5] = contents[4]
    captions = [f"a photo of class {one}" for one in classes]
    root = tmp_path_factory.mktemp("named") / "memory"
    return write_memory(root, image, text, keys=keys, captions=captions, contents=contents)


@pytest.fixture(scope="session")
def fresh_pairs() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Four pairs a class that no memory holds."""
    return pairs(seed=9, per_class=4)


@pytest.fixture(scope="session")
def names() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One text a class, as a prompt would give it."""
    return pairs(seed=10, per_class=1)
