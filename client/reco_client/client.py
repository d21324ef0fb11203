"""The client for ordinary code: each call returns when its answer is whole, and its requests go out side by side.

`AsyncClient` is the same for asyncio. Depends on httpx and the parts beside it.
"""

import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self, TypeVar, Unpack

import httpx

from reco_client import streams
from reco_client.answers import join_classifications, join_embeddings, label_sets_of, object_of, unreadable
from reco_client.asks import Ask, ask_add_pairs, ask_label_set, ask_label_sets, ask_pair, ask_pairs, ask_put_label_set
from reco_client.batches import Batch, cut
from reco_client.caller import Caller
from reco_client.errors import RequestRefused
from reco_client.images import ImageSource
from reco_client.options import ClassifyOptions, EmbedOptions
from reco_client.results import Classifications, Embeddings
from reco_client.retries import Answered, Deadline
from reco_client.streams import Stream

Part = TypeVar("Part")


class Client(Caller[httpx.Client]):
    """A service to ask. Use it as a context manager, or `close` it; threads may share it."""

    _http_class = httpx.Client

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def embed_texts(self, texts: str | Iterable[str], **options: Unpack[EmbedOptions]) -> Embeddings:
        """Embed a text, or any number of them.

        Raises:
            APIError: the service said no; `items` names the bad inputs by their place in the call.
            ConnectionFailed: no answer, after all retries.
            SpaceChanged: the service swapped its fusion meanwhile.
        """
        return join_embeddings(list(self.stream_texts(texts, **options)))

    def embed_images(self, images: ImageSource | Iterable[ImageSource], **options: Unpack[EmbedOptions]) -> Embeddings:
        """Embed an image, or any number of them: paths, bytes of encoded files, or open files.

        Raises:
            OSError: a file cannot be read; with on_error="partial" it is an entry of `errors` like any other.
            APIError, ConnectionFailed, SpaceChanged: as `embed_texts`.
        """
        return join_embeddings(list(self.stream_images(images, **options)))

    def classify(
        self, images: ImageSource | Iterable[ImageSource], **options: Unpack[ClassifyOptions]
    ) -> Classifications:
        """Classify an image, or any number of them, against `labels` or a `label_set`.

        Raises:
            OSError, APIError, ConnectionFailed, SpaceChanged: as `embed_images`.
        """
        return join_classifications(list(self.stream_classify(images, **options)))

    def stream_texts(
        self, texts: str | Iterable[str], **options: Unpack[EmbedOptions]
    ) -> Generator[Embeddings, None, None]:
        """A result for each request, in order, while the next are under way; `texts` may be endless.

        They are taken in your thread, so a result that is there is given with the next request's worth of them, or at
        their end: of texts that are long in coming with `in_flight=1`, or from `AsyncClient`, at once.
        """
        return self._run(streams.embed_texts(texts, self._cut, options))

    def stream_images(
        self, images: ImageSource | Iterable[ImageSource], **options: Unpack[EmbedOptions]
    ) -> Generator[Embeddings, None, None]:
        """A result for each request, in order, while the next are under way; `images` may be endless."""
        return self._run(streams.embed_images(images, self._cut, options))

    def stream_classify(
        self, images: ImageSource | Iterable[ImageSource], **options: Unpack[ClassifyOptions]
    ) -> Generator[Classifications, None, None]:
        """A result for each request, in order, while the next are under way; `images` may be endless."""
        return self._run(streams.classify(images, self._cut, options))

    def memory(self) -> dict[str, Any]:
        """What the service looks things up in: version, items, encoder, vector spaces."""
        return self._json(Ask("GET", "/memory"))

    def ready(self) -> dict[str, Any]:
        """How the service is.

        Raises:
            Overloaded: not ready; `told["reason"]` says why.
        """
        return self._json(Ask("GET", "/readyz"))

    def label_sets(self) -> list[dict[str, Any]]:
        """Names and sizes of the service's label sets."""
        return label_sets_of(self._json(ask_label_sets()))

    def label_set(self, name: str) -> dict[str, Any]:
        """Labels and templates of one label set."""
        return self._json(ask_label_set("GET", name))

    def put_label_set(self, name: str, labels: Sequence[str], templates: Sequence[str] | None = None) -> None:
        """Make or replace a label set; needs a key with the operator scope."""
        self._send(ask_put_label_set(name, labels, templates))

    def delete_label_set(self, name: str) -> None:
        """Delete a label set; needs a key with the operator scope."""
        self._send(ask_label_set("DELETE", name))

    def reload(self) -> dict[str, Any]:
        """Have the service open its newest memory and fusion; needs a key with the operator scope."""
        return self._json(Ask("POST", "/operator/reload"))

    def add_pairs(
        self,
        images: ImageSource | Iterable[ImageSource],
        *,
        name: str | None = None,
        caption: str | None = None,
        key: str | None = None,
        replace: bool = False,
    ) -> dict[str, Any]:
        """Put a few images into the memory, under what they show: the next request knows it. For operators.

        Args:
            name: what they show; or `caption`, their caption as it is.
            key: of one image, or what the keys of several begin with.
            replace: take the place of other pairs of the same keys.
        """
        options = {"name": name, "caption": caption, "key": key, "replace": replace}
        return self._json(ask_add_pairs(streams.listed(images), options))

    def pairs(self, *, limit: int = 100, offset: int = 0) -> dict[str, Any]:
        """What was added with `add_pairs`, the newest first: `total`, and `limit` of the `pairs`. For operators."""
        return self._json(ask_pairs(limit, offset))

    def pair(self, key: str) -> dict[str, Any]:
        """Any pair of the memory, by its key; needs a key with the operator scope."""
        return self._json(ask_pair("GET", key))

    def remove_pair(self, key: str) -> dict[str, Any]:
        """Take a pair out of the memory; needs a key with the operator scope."""
        return self._json(ask_pair("DELETE", key))

    def _run(self, stream: Stream[Part]) -> Generator[Part, None, None]:
        left = threading.Event()  # nobody waits for the answers any more
        answered = Answered()

        def one(batch: Batch[Any]) -> Part:
            ask = stream.ask(batch)  # reads the files: beside the other requests
            try:
                response = self._send(ask, left, answered) if ask.places else None
            except RequestRefused as refused:
                ask, response = ask.without(refused), None
            return stream.read(ask, response, len(batch.inputs))

        pool = ThreadPoolExecutor(self._in_flight, thread_name_prefix="reco-client")
        under_way: deque[Future[Part]] = deque()
        batches, failure = cut(stream.inputs, stream.cutter), None
        try:
            while True:
                try:
                    batch = next(batches, None)
                except Exception as error:  # the inputs' own: told after the answers to those before it
                    batch, failure = None, error
                if batch is None:
                    break
                under_way.append(pool.submit(one, batch))
                if len(under_way) == self._in_flight or under_way[0].done():
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
            if failure is not None:
                raise failure
        finally:
            left.set()
            # A connection closed under a request leaves its thread at a socket that nobody wakes: wait for the answer.
            pool.shutdown(wait=True, cancel_futures=True)

    def _json(self, ask: Ask) -> dict[str, Any]:
        return object_of(ask, self._send(ask))

    def _send(self, ask: Ask, left: threading.Event | None = None, answered: Answered | None = None) -> httpx.Response:
        """The answer, after as many attempts as it takes; when `left` is set there are no more."""
        answered = answered or Answered()
        attempt, seen, deadline = 0, answered.count, Deadline(self._deadline_s)
        while True:
            attempt += 1
            outcome: httpx.Response | httpx.TransportError
            try:
                outcome = self._attempt(ask, deadline)
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
            if wait_s is None or (left or threading.Event()).wait(wait_s):
                raise failure

    def _attempt(self, ask: Ask, deadline: Deadline) -> httpx.Response:
        """One answer, whatever it says.

        Raises:
            httpx.TransportError: none, or not by the deadline.
        """
        if not self._room.acquire(timeout=deadline.shorten(self._timeout_s)):
            raise httpx.PoolTimeout("the requests before it are not answered yet")
        try:
            request = self._http.build_request(ask.method, ask.path, timeout=self._timeout(deadline), **ask.arguments)
            response = self._http.send(request, stream=True)
            assert isinstance(response.stream, httpx.SyncByteStream), "of a client that waits"
            response.stream = _Until(deadline, response.stream)
            try:
                response.read()
            finally:
                response.close()
            return response
        finally:
            self._room.release()


class _Until(httpx.SyncByteStream):
    """An answer that is given up when it is not whole by a deadline, however steadily it trickles."""

    def __init__(self, deadline: Deadline, stream: httpx.SyncByteStream) -> None:
        self._deadline, self._stream = deadline, stream

    def __iter__(self) -> Iterator[bytes]:
        for place, part in enumerate(self._stream):
            if place and self._deadline.is_over:  # what is there at once is whole, for all that is known
                raise httpx.ReadTimeout("the answer is not whole yet")
            yield part

    def close(self) -> None:
        """Let go of the connection."""
        self._stream.close()
