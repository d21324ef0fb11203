"""The client for asyncio: what `Client` does, awaited. Streams are async iterators, and what they take may be one.

Depends on httpx and the parts beside it.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Sequence
from contextlib import aclosing
from typing import Any, Self, TypeAlias, TypeVar, Unpack

import httpx

from reco_client import streams
from reco_client.answers import join_classifications, join_embeddings, label_sets_of, object_of, unreadable
from reco_client.asks import Ask, ask_add_pairs, ask_label_set, ask_label_sets, ask_pair, ask_pairs, ask_put_label_set
from reco_client.batches import Batch, cut_async
from reco_client.caller import Caller
from reco_client.errors import RequestRefused
from reco_client.images import ImageSource
from reco_client.options import ClassifyOptions, EmbedOptions
from reco_client.results import Classifications, Embeddings
from reco_client.retries import Answered, Deadline
from reco_client.streams import Stream

Part = TypeVar("Part")
Texts: TypeAlias = str | Iterable[str] | AsyncIterable[str]
Images: TypeAlias = ImageSource | Iterable[ImageSource] | AsyncIterable[ImageSource]


class AsyncClient(Caller[httpx.AsyncClient]):
    """A service to ask. Use it as an async context manager, or `aclose` it."""

    _http_class = httpx.AsyncClient

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def embed_texts(self, texts: Texts, **options: Unpack[EmbedOptions]) -> Embeddings:
        """See `Client.embed_texts`."""
        return join_embeddings([part async for part in self.stream_texts(texts, **options)])

    async def embed_images(self, images: Images, **options: Unpack[EmbedOptions]) -> Embeddings:
        """See `Client.embed_images`."""
        return join_embeddings([part async for part in self.stream_images(images, **options)])

    async def classify(self, images: Images, **options: Unpack[ClassifyOptions]) -> Classifications:
        """See `Client.classify`."""
        return join_classifications([part async for part in self.stream_classify(images, **options)])

    def stream_texts(self, texts: Texts, **options: Unpack[EmbedOptions]) -> AsyncGenerator[Embeddings, None]:
        """See `Client.stream_texts`; here a result comes once it is there, however long the next text takes."""
        return self._run(streams.embed_texts(texts, self._cut, options))

    def stream_images(self, images: Images, **options: Unpack[EmbedOptions]) -> AsyncGenerator[Embeddings, None]:
        """See `Client.stream_images`."""
        return self._run(streams.embed_images(images, self._cut, options))

    def stream_classify(
        self, images: Images, **options: Unpack[ClassifyOptions]
    ) -> AsyncGenerator[Classifications, None]:
        """See `Client.stream_classify`."""
        return self._run(streams.classify(images, self._cut, options))

    async def memory(self) -> dict[str, Any]:
        """See `Client.memory`."""
        return await self._json(Ask("GET", "/memory"))

    async def ready(self) -> dict[str, Any]:
        """See `Client.ready`."""
        return await self._json(Ask("GET", "/readyz"))

    async def label_sets(self) -> list[dict[str, Any]]:
        """See `Client.label_sets`."""
        return label_sets_of(await self._json(ask_label_sets()))

    async def label_set(self, name: str) -> dict[str, Any]:
        """See `Client.label_set`."""
        return await self._json(ask_label_set("GET", name))

    async def put_label_set(self, name: str, labels: Sequence[str], templates: Sequence[str] | None = None) -> None:
        """See `Client.put_label_set`."""
        await self._send(ask_put_label_set(name, labels, templates))

    async def delete_label_set(self, name: str) -> None:
        """See `Client.delete_label_set`."""
        await self._send(ask_label_set("DELETE", name))

    async def reload(self) -> dict[str, Any]:
        """See `Client.reload`."""
        return await self._json(Ask("POST", "/operator/reload"))

    async def add_pairs(
        self,
        images: ImageSource | Iterable[ImageSource],
        *,
        name: str | None = None,
        caption: str | None = None,
        key: str | None = None,
        replace: bool = False,
    ) -> dict[str, Any]:
        """See `Client.add_pairs`."""
        options = {"name": name, "caption": caption, "key": key, "replace": replace}
        return await self._json(await asyncio.to_thread(ask_add_pairs, streams.listed(images), options))

    async def pairs(self, *, limit: int = 100, offset: int = 0) -> dict[str, Any]:
        """See `Client.pairs`."""
        return await self._json(ask_pairs(limit, offset))

    async def pair(self, key: str) -> dict[str, Any]:
        """See `Client.pair`."""
        return await self._json(ask_pair("GET", key))

    async def remove_pair(self, key: str) -> dict[str, Any]:
        """See `Client.remove_pair`."""
        return await self._json(ask_pair("DELETE", key))

    async def _run(self, stream: Stream[Part]) -> AsyncGenerator[Part, None]:
        answered = Answered()

        async def one(batch: Batch[Any]) -> Part:
            ask = await asyncio.to_thread(stream.ask, batch)  # reads the files
            try:
                response = await self._send(ask, answered) if ask.places else None
            except RequestRefused as refused:
                ask, response = ask.without(refused), None
            return stream.read(ask, response, len(batch.inputs))

        under_way: asyncio.Queue[asyncio.Task[Part] | None] = asyncio.Queue()
        room = asyncio.Semaphore(self._in_flight)

        async def feed() -> None:  # beside the answers: an input that is long in coming holds none of them back
            try:
                async with aclosing(cut_async(stream.inputs, stream.cutter)) as batches:
                    await room.acquire()
                    async for batch in batches:
                        under_way.put_nowait(asyncio.create_task(one(batch)))
                        await room.acquire()
            finally:
                under_way.put_nowait(None)

        feeding = asyncio.create_task(feed())
        try:
            while (request := await under_way.get()) is not None:
                part = await request
                room.release()
                yield part
            await feeding  # raises what the inputs did
        finally:
            feeding.cancel()
            left = cancelled(under_way)  # before anything is awaited, for whoever cancels again would leave them
            await asyncio.gather(feeding, *left, return_exceptions=True)
            await asyncio.gather(*cancelled(under_way), return_exceptions=True)

    async def _json(self, ask: Ask) -> dict[str, Any]:
        return object_of(ask, await self._send(ask))

    async def _send(self, ask: Ask, answered: Answered | None = None) -> httpx.Response:
        """The answer, after as many attempts as it takes."""
        answered = answered or Answered()
        attempt, seen, deadline = 0, answered.count, Deadline(self._deadline_s)
        while True:
            attempt += 1
            outcome: httpx.Response | httpx.TransportError
            try:
                async with asyncio.timeout(deadline.left_s):
                    timeout = self._timeout(deadline)
                    outcome = await self._http.request(ask.method, ask.path, timeout=timeout, **ask.arguments)
            except TimeoutError:
                outcome = httpx.ReadTimeout("the answer is not whole yet")
            except httpx.TransportError as error:
                outcome = error
            except httpx.DecodingError as error:
                raise unreadable(ask) from error
            if isinstance(outcome, httpx.Response) and outcome.is_success:
                answered.add()
                return outcome
            if answered.count > seen:
                attempt, seen = 1, answered.count
            failure, wait_s = self._failed(ask, attempt, outcome, deadline)
            if wait_s is None:
                raise failure
            await asyncio.sleep(wait_s)


def cancelled(queue: asyncio.Queue[asyncio.Task[Part] | None]) -> list[asyncio.Task[Part]]:
    """The tasks that a queue holds, taken out of it and asked to end."""
    tasks = [task for task in (queue.get_nowait() for _ in range(queue.qsize())) if task is not None]
    for task in tasks:
        task.cancel()
    return tasks
