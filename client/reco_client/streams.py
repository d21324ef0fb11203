"""Each call as a stream: how it is cut into requests, and what is made of the answers. No connection is touched here.

Depends on batches, wire and the parts beside them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import httpx

from reco_client.batches import Batch, by_count, by_count_and_bytes
from reco_client.images import ImageSource
from reco_client.results import Classifications, Embeddings
from reco_client.wire import Ask, ask_images, ask_texts, classifications_of, embeddings_of

Part = TypeVar("Part")


@dataclass(frozen=True)
class Cut:
    """How much goes into one request."""

    texts: int
    images: int
    num_bytes: int


@dataclass(frozen=True)
class Stream(Generic[Part]):
    """Batches to come, the request that each becomes, and the result of its answer."""

    batches: Iterator[Batch[Any]]
    ask: Callable[[Batch[Any]], Ask]
    answer: Callable[[Ask, httpx.Response | None, int], Part]


def embed_texts(texts: str | Iterable[str], cut: Cut, options: Mapping[str, Any]) -> Stream[Embeddings]:
    """One text or many."""
    batches = by_count([texts] if isinstance(texts, str) else texts, cut.texts)
    return Stream(batches, partial(ask_texts, options=options), embeddings_of)


def embed_images(images: Any, cut: Cut, options: Mapping[str, Any]) -> Stream[Embeddings]:
    """One image or many."""
    batches = by_count_and_bytes(listed(images), cut.images, cut.num_bytes)
    return Stream(batches, partial(ask_images, "/embed/image", options=options), embeddings_of)


def classify(images: Any, cut: Cut, options: Mapping[str, Any]) -> Stream[Classifications]:
    """One image or many."""
    lists = {name: list(options[name]) for name in ("labels", "templates") if options.get(name) is not None}
    batches = by_count_and_bytes(listed(images), cut.images, cut.num_bytes)
    return Stream(batches, partial(ask_images, "/classify", options={**options, **lists}), classifications_of)


def listed(images: Any) -> Iterable[ImageSource]:
    """One image as a list of one: what is no image itself is taken for many."""
    single = isinstance(images, str | bytes | bytearray | memoryview)
    return [images] if single or hasattr(images, "__fspath__") or hasattr(images, "read") else images
