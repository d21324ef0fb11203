"""Each call as a stream: how it is cut into requests, and what is made of the answers. No connection is touched here.

Depends on batches, asks, answers and the parts beside them.
"""

import zipfile
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from os import PathLike
from typing import Any, Generic, TypeVar

import httpx

from reco_client.answers import classifications_of, embeddings_of, unreadable
from reco_client.asks import Ask, ask_images, ask_texts
from reco_client.batches import Batch, Cutter
from reco_client.images import ImageSource
from reco_client.options import ClassifyOptions, EmbedOptions, check_options, listed_labels
from reco_client.results import Classifications, Embeddings

Part = TypeVar("Part")


@dataclass(frozen=True)
class Cut:
    """How much goes into one request.

    Raises:
        ValueError: nothing.
    """

    texts: int
    images: int
    num_bytes: int

    def __post_init__(self) -> None:
        if min(self.texts, self.images, self.num_bytes) < 1:
            raise ValueError("texts_per_request, images_per_request and bytes_per_request are at least 1")


@dataclass(frozen=True)
class Stream(Generic[Part]):
    """Inputs to come, what cuts them, the request that each batch becomes, and the result of its answer.

    Attributes:
        inputs: any iterable; for `AsyncClient` also one to be awaited.
    """

    inputs: Any
    cutter: Cutter[Any]
    ask: Callable[[Batch[Any]], Ask]
    answer: Callable[[Ask, httpx.Response | None, int], Part]

    def read(self, ask: Ask, response: httpx.Response | None, count: int) -> Part:
        """The result of an answer.

        Raises:
            AnswerInvalid: it is no answer of RECO.
        """
        try:
            return self.answer(ask, response, count)
        except (AttributeError, LookupError, TypeError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise unreadable(ask) from error


def embed_texts(texts: Any, cut: Cut, options: Mapping[str, Any]) -> Stream[Embeddings]:
    """One text or many.

    Raises:
        TypeError: an option that there is not.
    """
    check_options(options, EmbedOptions)
    inputs = [texts] if isinstance(texts, str) else texts
    return Stream(inputs, Cutter(cut.texts), partial(ask_texts, options=options), embeddings_of)


def embed_images(images: Any, cut: Cut, options: Mapping[str, Any]) -> Stream[Embeddings]:
    """One image or many.

    Raises:
        TypeError: an option that there is not.
    """
    check_options(options, EmbedOptions)
    ask = partial(ask_images, "/embed/image", options=options)
    return Stream(listed(images), Cutter(cut.images, cut.num_bytes), ask, embeddings_of)


def classify(images: Any, cut: Cut, options: Mapping[str, Any]) -> Stream[Classifications]:
    """One image or many.

    Raises:
        TypeError: an option that there is not, or a string where a list of them is to be.
    """
    check_options(options, ClassifyOptions)
    names = [name for name in ("labels", "templates") if options.get(name) is not None]
    lists = {name: listed_labels(name, options[name]) for name in names}
    ask = partial(ask_images, "/classify", options={**options, **lists})
    return Stream(listed(images), Cutter(cut.images, cut.num_bytes), ask, classifications_of)


def listed(images: Any) -> Iterable[ImageSource]:
    """One image as a list of one, and so what is neither one nor many: reading it says what an image is."""
    single = isinstance(images, str | bytes | bytearray | memoryview | PathLike) or hasattr(images, "read")
    many = isinstance(images, Iterable | AsyncIterable) or hasattr(images, "__getitem__")
    return [images] if single or not many else images
