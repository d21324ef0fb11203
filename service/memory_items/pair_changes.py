"""Pairs put into the memory while it is served: encoded by the running encoder, committed, and swapped in.

Free of HTTP. Depends on lifecycle, pipeline, models' thumbnails and memory's own writer.
"""

import asyncio
import hashlib
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa

from memory import ITEMS_SCHEMA, Addition, KeyPatterns, KeyTaken, MemoryStoreError, Removal, Rows, add_rows, remove_keys
from models.images.decoding import ImageLimits, decode_image
from models.images.thumbnails import THUMBNAIL_PX, make_thumbnail
from service.lifecycle import Service
from service.pipeline.engine import Engine, FloatArray
from service.pipeline.pipeline import Ask, Outcome
from service.pipeline.trace import Trace
from service.problems import ItemError, Problem
from service.settings import Settings

logger = logging.getLogger("reco.pairs")

Result = TypeVar("Result")
CAPTION = "a photo of a {}."  # of a pair that has a name only: what /classify makes of a label
SOURCE = "added by an operator"
_KEY = re.compile(r"[^\x00-\x1f\x7f/][^\x00-\x1f\x7f]{0,255}")
# The memory's refusals in the words of the API; any other is a fault of ours.
_CODES = {
    "key_not_found": "pair_not_found",
    "locked": "memory_locked",
    "version_taken": "memory_locked",
    "write_failed": "memory_write_failed",
}


async def add_pairs(
    service: Service,
    images: Sequence[bytes],
    caption: str,
    key: str | None,
    *,
    told_in: str,
    replace_stored: bool,
    trace: Trace,
) -> tuple[Addition, Engine]:
    """Add images under one caption.

    Args:
        service: ready.
        images: encoded files.
        caption: of all of them.
        key: of the one image, or what the keys of several begin with; None names each after what it holds.
        told_in: the field that the caption came in, for what is wrong with it.
        replace_stored: let them take the place of what is stored under their keys.
        trace: where the seconds of encoding go.

    Returns:
        What was done, and the engine that serves it now.

    Raises:
        Problem: an image's or the caption's code, key_invalid, pair_exists, memory_elsewhere, memory_locked,
            memory_write_failed, reload_refused.
    """
    hashes = await asyncio.to_thread(_hashes, images)
    keys = _keys(key, hashes, caption)
    first = {name: place for place, name in reversed(list(enumerate(keys)))}  # an image sent twice is one pair
    kept = sorted(first.values())
    rows = await _encode(service, [images[place] for place in kept], caption, f"/{told_in}", trace)
    columns = {
        "key": [keys[place] for place in kept],
        "caption": [caption] * len(kept),
        "source": [SOURCE] * len(kept),
        "content_sha256": [hashes[place] for place in kept],
        "thumbnail": await asyncio.to_thread(_thumbnails, [images[place] for place in kept], service.settings),
    }
    rows = replace(rows, items=pa.table(columns, schema=ITEMS_SCHEMA))
    settings, record = service.settings, service.pipeline.engine.encoder.fingerprint.record()

    def work() -> Addition:
        root, stamps = Path(settings.memory), Path(settings.stamps)
        try:
            return add_rows(root, rows, encoder=record, replace=replace_stored, stamps=stamps)
        except KeyTaken as error:
            taken = [ItemError(f"/images/{first[name]}", "pair_exists") for name in error.keys]
            raise Problem("pair_exists", errors=taken) from None

    return await _change(service, work)


async def remove_pair(service: Service, key: str) -> Engine:
    """Take one pair out of every search, by its key; the engine that serves the memory without it.

    Raises:
        Problem: pair_not_found, memory_locked, memory_write_failed, reload_refused.
    """
    if not key:
        raise Problem("pair_not_found")
    settings = service.settings

    def work() -> Removal:
        return remove_keys(Path(settings.memory), KeyPatterns(keys=[key]), stamps=Path(settings.stamps))

    done, engine = await _change(service, work)
    if not done.created:
        raise Problem("pair_not_found")  # removed before
    return engine


async def _change(service: Service, work: Callable[[], Result]) -> tuple[Result, Engine]:
    """Commit, then serve what was committed; one change at a time."""
    if service.settings.backend != "faiss" or service.settings.memory_is_remote:
        raise Problem("memory_elsewhere")
    async with service.changing:
        try:
            done = await asyncio.to_thread(work)
        except MemoryStoreError as error:
            if error.code not in _CODES:  # what is on disk cannot be opened
                logger.error("the memory could not be changed: %s", error)
                raise Problem("reload_refused", extensions={"reason": error.code}) from None
            if _CODES[error.code] == "memory_write_failed":
                logger.error("the memory could not be written: %s", error)
            raise Problem(_CODES[error.code]) from None
        except OSError as error:
            logger.error("the memory could not be written", exc_info=error)
            raise Problem("memory_write_failed") from None
    reloaded = await service.reload(wait=True)
    return done, reloaded.engine


async def _encode(service: Service, images: Sequence[bytes], caption: str, pointer: str, trace: Trace) -> Rows:
    """The embeddings of the frozen encoder, through the same queue as everybody's."""
    pipeline, ask = service.pipeline, Ask(enhance=False, k=1)
    deadline = pipeline.deadline()
    limits = service.settings.item_limits
    texts, _ = await pipeline.embed_texts([caption], [pointer], ask, deadline, trace)
    [text] = _originals(texts, limits)
    found = _originals(await pipeline.embed_images(images, ask, deadline, trace), limits)
    return Rows(
        image=np.stack(found).astype(np.float16),
        text=np.stack([text] * len(found)).astype(np.float16),
        items=ITEMS_SCHEMA.empty_table(),
    )


def _originals(outcomes: Sequence[Outcome], limits: Mapping[str, int]) -> list[FloatArray]:
    errors = [outcome for outcome in outcomes if isinstance(outcome, ItemError)]
    if errors:
        raise Problem.of_items(errors, limits)
    return [outcome.original for outcome in outcomes if not isinstance(outcome, ItemError)]


def _keys(key: str | None, hashes: Sequence[str], caption: str) -> list[str]:
    if key is None:
        names = [hashlib.sha256(f"{content}\n{caption}".encode()).hexdigest()[:16] for content in hashes]
        return [f"added/{name}" for name in names]
    if not _KEY.fullmatch(key) or key.endswith("/"):
        raise Problem("key_invalid", errors=[ItemError("/key", "key_invalid")])
    return [key] if len(hashes) == 1 else [f"{key}/{place}" for place in range(len(hashes))]


def _hashes(images: Sequence[bytes]) -> list[str]:
    return [hashlib.sha256(image).hexdigest() for image in images]


def _thumbnails(images: Sequence[bytes], settings: Settings) -> list[bytes]:
    limits = ImageLimits(max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels)
    return [make_thumbnail(decode_image(image, limits, enough=THUMBNAIL_PX)) for image in images]
