"""Rows of a memory that share something told in text: a caption, the image's bytes, where they come from.

Texts are hashed as they are read, a block at a time, so that a memory of millions costs eight bytes a row.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from memory import SearchableMemory
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
    """Number equal captions alike, as `plain` has them: (N,) int64, from 0."""
    return number_equal(blocks, plain)


def number_alike(
    memory: SearchableMemory, ids: NDArray[np.int64], group: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Number alike all of some pairs of a memory that equal captions or equal images join, over others of them too.

    Of five captions of one image none is a wrong answer to another, and to hold out one and show the others is to show
    the answer. The numbers are those of the captions where no image has several.

    Args:
        memory: of R rows.
        ids: (N,) the pairs in question.
        group: (R,) int64, what belongs together besides images, such as pairs of an entity; equal captions by default.

    Returns:
        (R,) int64; of the other rows the number of their caption, or of their group.
    """
    group = number_captions(memory.blocks("caption")) if group is None else group.copy()
    image = number_equal(memory.blocks("content_sha256"))
    group[ids] = number_joined(group[ids], image[ids])
    return group


def number_joined(caption: NDArray[np.int64], image: NDArray[np.int64]) -> NDArray[np.int64]:
    """The lowest caption (N,) int64 that each row reaches by rows of an equal caption or an equal image.

    Captions alone count where that joins more than half of all rows: words as common as `a photo`, told beside others
    of each image, then tell nothing.
    """
    if not len(caption):
        return caption
    lowest = np.arange(caption.max() + 1)  # of each caption; never above its own number, so that no jump runs in a ring
    while True:
        reached = np.full(image.max() + 1, len(lowest))
        np.minimum.at(reached, image, lowest[caption])
        jumped = lowest.copy()
        np.minimum.at(jumped, lowest[caption], reached[image])
        np.minimum.at(jumped, caption, reached[image])
        while not np.array_equal(further := jumped[jumped], jumped):
            jumped = further
        if np.array_equal(jumped, lowest):
            break
        lowest = jumped
    joined = lowest[caption]
    return caption if 2 * np.bincount(joined).max() > len(joined) else joined


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
