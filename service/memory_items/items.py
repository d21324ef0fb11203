"""Items of the memory by id or by chance, for people to look at. Depends on the memory room and numpy."""

from typing import Any

import numpy as np

from memory import Item, SearchableMemory


def find_item(memory: SearchableMemory, id: int | None) -> Item | None:
    """The item of an id; None for an id that is none, or whose item was deleted."""
    if id is None or id >= memory.num_rows:
        return None
    deleted = memory.deleted_ids()
    place = int(np.searchsorted(deleted, id))
    if place < len(deleted) and deleted[place] == id:
        return None
    return memory.items([id])[0]


def sample_items(memory: SearchableMemory, count: int, seed: int) -> list[dict[str, Any]]:
    """Up to `count` items drawn at random, by id, as plain JSON; deleted ones are left out."""
    chance = np.random.default_rng(seed)
    drawn = chance.choice(memory.num_rows, size=min(memory.num_rows, 2 * count), replace=False)
    ids = np.sort(np.setdiff1d(drawn, memory.deleted_ids(), assume_unique=True)[:count])
    return [describe_item(item) for item in memory.items(ids)]


def describe_item(item: Item) -> dict[str, Any]:
    """An item as plain JSON; its thumbnail is a request of its own."""
    return {"id": item.id, "key": item.key, "caption": item.caption, "thumbnail": item.thumbnail is not None}
