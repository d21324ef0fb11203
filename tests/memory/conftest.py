"""Small seeded memories for the tests of this room; also imported by the child processes of test_publish."""

import hashlib
import json
import shutil
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import seeded_rows
from seeded_rows import unit_rows

import memory

D = 24
ENCODED_WITH = {"device": "cpu", "dtype": "float32"}


def encoder_record(embed_dim: int = D) -> dict[str, Any]:
    return seeded_rows.encoder_record(embed_dim)


def make_rows(n: int, embed_dim: int = D, seed: int = 0, *, thumbnails: bool = True) -> memory.Rows:
    keys = [f"{seed}-{i}" for i in range(n)]
    items = pa.table(
        {
            "key": keys,
            "caption": [f"a photo of {key}" for key in keys],
            "source": [f"corpus.csv:{i}" for i in range(n)],
            "content_sha256": [hashlib.sha256(key.encode()).hexdigest() for key in keys],
            "thumbnail": [key.encode() * 3 if thumbnails and i % 3 else None for i, key in enumerate(keys)],
        },
        schema=memory.ITEMS_SCHEMA,
    )
    image, text = (unit_rows(n, embed_dim, 2 * seed + side).astype(np.float16) for side in (0, 1))
    return memory.Rows(image, text, items)


def slice_rows(rows: memory.Rows, start: int, stop: int) -> memory.Rows:
    return memory.Rows(rows.image[start:stop], rows.text[start:stop], rows.items.slice(start, stop - start))


def commit(
    root: Path,
    segments: Sequence[memory.Rows],
    *,
    deletes: Sequence[int] = (),
    parent: int | None = None,
    options: memory.IndexOptions | None = None,
) -> memory.Manifest:
    """Write, index and publish: one segment and one unit for each of `segments`."""
    records = [
        memory.write_segment(root, [rows], [memory.UnitRecord(f"unit-{i}", len(rows.image))])
        for i, rows in enumerate(segments)
    ]
    contents = memory.Contents(
        encoder=encoder_record(segments[0].image.shape[1]),
        encoded_with=ENCODED_WITH,
        segments=tuple(records),
        indexes=memory.build_indexes(root, records, options=options),
        deletes=(memory.write_deletes(root, deletes),) if len(deletes) else (),
        parent=parent,
    )
    return memory.publish(root, contents)


def tamper(root: Path, edit: Callable[[dict[str, Any]], object], *, version: int = 1) -> None:
    """Edit a manifest the way a careful attacker would: canonical, and with a right hash of itself."""
    path = root / f"manifests/{version:08d}.json"
    value = json.loads(path.read_bytes())
    edit(value)
    value.pop("self_sha256", None)
    text = json.dumps(value, sort_keys=True, separators=(",", ":")) + "\n"
    value["self_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    path.write_text(json.dumps(value, sort_keys=True, separators=(",", ":")) + "\n")


def replace_file(root: Path, relative: str, data: bytes) -> None:
    """Replace a file of version 1 and the manifest's idea of it."""
    (root / relative).write_bytes(data)
    record = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    tamper(root, lambda value: value["files"].__setitem__(relative, record))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "memory"


@pytest.fixture(scope="session")
def factory() -> Any:
    """The functions of this file, for tests that cannot import it."""
    names = (encoder_record, unit_rows, make_rows, slice_rows, commit, tamper, replace_file)
    return types.SimpleNamespace(**{function.__name__: function for function in names}, D=D)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("finished") / "memory"
    commit(path, [make_rows(40, seed=1), make_rows(30, seed=2)], deletes=[3, 50])
    return path


@pytest.fixture
def built(root: Path, finished: Path) -> Path:
    """A copy of a finished memory of two segments with a delete list: every kind of file there is."""
    shutil.copytree(finished, root)
    return root
