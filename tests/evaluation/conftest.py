"""Memories, fusions and tasks made from seeded arrays: no encoder needed."""

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from seeded_rows import encoder_record, unit_rows

import memory
from memory import Memory
from models.checkpoint import save_fusion
from models.fusion import Fusion, FusionConfig

D = 64


def write_memory(root: Path, image: np.ndarray, text: np.ndarray, captions: list[str], deletes: list[int]) -> Memory:
    """A committed memory of these pairs, opened."""
    items = pa.table(
        {
            "key": [f"pairs/{i}" for i in range(len(image))],
            "caption": captions,
            "source": [f"pairs {i}" for i in range(len(image))],
            "content_sha256": [f"{i:064x}" for i in range(len(image))],
            "thumbnail": pa.nulls(len(image), pa.binary()),
        },
        schema=memory.ITEMS_SCHEMA,
    )
    rows = memory.Rows(image.astype(np.float16), text.astype(np.float16), items)
    record = memory.write_segment(root, [rows], [memory.UnitRecord("unit", len(image))])
    contents = memory.Contents(
        encoder=encoder_record(image.shape[1]),
        encoded_with={"device": "cpu", "dtype": "float32"},
        segments=(record,),
        indexes={side: memory.build_index(root, [record], side) for side in memory.MODALITIES},
        deletes=(memory.write_deletes(root, deletes),) if deletes else (),
        parent=None,
    )
    memory.publish(root, contents)
    return Memory.open(root)


@pytest.fixture(scope="session")
def any_memory(tmp_path_factory: pytest.TempPathFactory) -> Memory:
    """150 random pairs, three of them deleted."""
    captions = [f"a photo of thing {i}" for i in range(150)]
    root = tmp_path_factory.mktemp("any") / "memory"
    return write_memory(root, unit_rows(150, D, 1), unit_rows(150, D, 2), captions, [3, 4, 90])


NUM_CLASSES, PER_CLASS = 12, 8
NAMES = [f"species <{letter}> & co" for letter in "abcdefghijkl"]  # a page must escape them


@dataclass(frozen=True)
class World:
    """A world where names are hard and looks are easy: the memory knows more than the frozen encoder."""

    memory: Path
    fusions: tuple[Path, Path]
    zero_shot: Path
    retrieval: Path
    entities: Path


def noisy(rows: np.ndarray, amount: float, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(rows.shape) * amount / np.sqrt(rows.shape[1])
    moved = rows + noise
    return (moved / np.linalg.norm(moved, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A memory on disk, two fusions trained for nothing (they start as gated means), and a task of each kind."""
    root = tmp_path_factory.mktemp("world")
    looks = unit_rows(NUM_CLASSES, D, 1)
    names = noisy(looks, 2.0, 2)
    labels = np.repeat(np.arange(NUM_CLASSES), PER_CLASS)
    captions = [f"{NAMES[label]} no. {i}" for i, label in enumerate(labels)]
    memory_image, memory_text = noisy(looks[labels], 0.8, 3), noisy(names[labels], 0.3, 4)
    opened = write_memory(root / "memory", memory_image, memory_text, captions, [5])
    fusions = []
    for seed in range(2):
        fusion = Fusion(FusionConfig("copy", D, k=4))
        for side in (fusion.image, fusion.text):
            side.step.data += 1.0 + seed
        save_fusion(root / f"fusion-{seed}", fusion, opened.manifest.encoder, {"seed": seed, "memory_digest": "x"})
        fusions.append(root / f"fusion-{seed}")
    images = noisy(looks[labels], 0.8, 5)
    images[:3] = memory_image[:3]  # the leak: three test images lie in the memory
    arrays = {"image": images, "text": names, "label": labels, "class_name": np.array(NAMES)}
    np.savez(root / "zero.npz", **arrays)
    np.savez(root / "entities.npz", **arrays, unseen_class=np.arange(8, NUM_CLASSES), train_class=np.arange(7))
    np.savez(root / "pairs.npz", image=images, text=noisy(names[labels], 0.3, 6), caption=np.array(captions))
    return World(root / "memory", tuple(fusions), root / "zero.npz", root / "pairs.npz", root / "entities.npz")


@pytest.fixture(scope="session")
def factory() -> SimpleNamespace:
    """The functions of this file, for tests that cannot import it."""
    return SimpleNamespace(unit_rows=unit_rows, noisy=noisy, write_memory=write_memory)
