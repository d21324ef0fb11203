"""Pairs of the memory that is served, looked up for whoever runs it: by key, and what was added while it ran.

Free of HTTP. Depends on memory, the pipeline's engine and problems.
"""

from typing import Any

import numpy as np

from memory import Memory, added_ids
from service.memory_items.items import describe_item
from service.pipeline.engine import Engine
from service.problems import Problem


def find_pair(engine: Engine, key: str) -> dict[str, Any]:
    """The pair of a key, as plain JSON.

    Raises:
        Problem: pair_not_found, memory_elsewhere.
    """
    memory = _directory(engine)
    found = np.array([id for id, _ in memory.find_keys([key])], dtype=np.int64)
    alive = np.setdiff1d(found, memory.deleted_ids())
    if not len(alive):
        raise Problem("pair_not_found")
    return describe_item(memory.items(alive[:1])[0])


def list_added(engine: Engine, limit: int, offset: int) -> dict[str, Any]:
    """What operators added, the newest first: how many pairs, and `limit` of them from the `offset`-th on.

    Raises:
        Problem: memory_elsewhere.
    """
    memory = _directory(engine)
    newest_first = added_ids(memory)[::-1]
    shown = memory.items(newest_first[offset : offset + limit])
    return {"total": len(newest_first), "pairs": [describe_item(item) for item in shown]}


def _directory(engine: Engine) -> Memory:
    if not isinstance(engine.memory, Memory):
        raise Problem("memory_elsewhere")
    return engine.memory
