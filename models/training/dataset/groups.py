"""Rows of a memory that share something told in text: a caption, the image's bytes, where they come from.

Texts are hashed as they are read, a block at a time, so that a memory of millions costs eight bytes a row.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from models.texts.names import plain

# An item's own part of its source: a member, a file, a row, one of a row's images.
_ITEM_OF_SOURCE = re.compile(r"(/[^/]*| row \d+(?:, [^/]*)?)$")


def number_equal(blocks: Iterable[Sequence[str]], part: Callable[[str], str] = str) -> NDArray[np.int64]:
    """Number equal texts alike: (N,) int64, from 0.

    Args:
        blocks: the texts, in blocks.
        part: what of each text counts.
    """
    hashes = [np.fromiter((_hash(part(text)) for text in block), dtype=np.uint64, count=len(block)) for block in blocks]
    if not hashes:
        return np.empty(0, dtype=np.int64)
    _, numbers = np.unique(np.concatenate(hashes), return_inverse=True)
    return numbers.astype(np.int64)


def number_captions(blocks: Iterable[Sequence[str]]) -> NDArray[np.int64]:
    """Number equal captions alike, whatever their case, spaces and Unicode form: (N,) int64, from 0."""
    return number_equal(blocks, plain)


def number_belonging(entity: NDArray[np.int64], captions: Iterable[Sequence[str]]) -> NDArray[np.int64]:
    """Number alike what shows one entity, and equal captions of what shows none: (N,) int64, from 0.

    Args:
        entity: (N,) int64 of each row, -1 for none.
        captions: of all rows, in blocks.
    """
    return np.where(entity >= 0, entity, number_captions(captions) + entity.max(initial=-1) + 1)


def container(source: str) -> str:
    """What an item was read from: `birds.tar` of `birds.tar/0001.jpg`, `pets.parquet` of `pets.parquet row 7`."""
    return _ITEM_OF_SOURCE.sub("", source)


def folder(key: str) -> str:
    """The folder of a key: `shop/mug` of `shop/mug/1`."""
    return str(PurePosixPath(key).parent)


def _hash(text: str) -> int:
    """64 bits: among ten million texts, two different ones are equal once in 370,000 memories."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
