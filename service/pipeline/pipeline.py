"""The path of an item: admission, decode pool, batcher, answer. Async, and free of HTTP.

One bad item becomes an ItemError in its place; what concerns the whole request (no room, out of time) is a
Problem. One pipeline belongs to one engine; the threads behind it are shared and outlive it (workers.py).
Depends on batcher, engine, metrics, problems, trace, waiting, weighing and workers.
"""

import asyncio
import time
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias, TypeVar

import numpy as np

from memory import Modality
from models.errors import InputError
from models.fusion.label_set import LabelSetWeights
from service.observing.metrics import Metrics
from service.pipeline.batch import BatcherStopped, Done, QueueFull
from service.pipeline.engine import Answer, Content, Engine, FloatArray, Query, Tokenised
from service.pipeline.trace import Trace
from service.pipeline.undecoded import pixels_by_headers
from service.pipeline.waiting import as_problem, item_code, together, within
from service.pipeline.weighing import weigh_classes
from service.pipeline.workers import Workers
from service.problems import ItemError, Problem, known_code
from service.settings import Settings

Result = TypeVar("Result")
Outcome: TypeAlias = "Answer | ItemError"
_SHORT_BYTES = 64 * 1024  # of a request's images: their headers are read faster than a thread could be asked to
_TEXTS_A_TURN = 32  # at the thread that tokenises; the longest texts take it a third of a second
_SHORT_CHARACTERS = 200  # of a request's texts: tokenised faster than a thread could be asked to
_CANARY_TEXT = "a photo"
# The smallest GIF: one grey pixel.
CANARY_IMAGE = bytes.fromhex("47494638396101000100800000808080ffffff2c00000000010001000002024401003b")


@dataclass(frozen=True)
class Ask:
    """What is wanted of each item; see `engine.Query`."""

    enhance: bool
    k: int
    neighbours: bool = False
    weight: float | None = None

    def query(self, content: Content) -> Query:
        return Query(content, self.enhance, self.k, self.neighbours, self.weight)


class Pipeline:
    """The path through one engine."""

    def __init__(self, engine: Engine, workers: Workers, settings: Settings, metrics: Metrics) -> None:
        self.engine = engine
        self.batcher = workers.batcher
        self._workers = workers
        self._settings = settings
        self._metrics = metrics

    def deadline(self) -> float:
        """The end of a request that starts now, on `time.monotonic`."""
        return time.monotonic() + self._settings.request_timeout_s

    @property
    def part_size(self) -> int:
        """Items of a long job that are queued at a time: a batch, if the queue holds one."""
        return min(self._settings.max_batch_size, self._settings.max_queue_items)

    def refuse_if_full(self, *modalities: Modality, coming: Mapping[Modality, int]) -> None:
        """Shed a request before its body is read, if none of these has room.

        Args:
            modalities: the queues that it may fill.
            coming: requests for each of them that were let in and have not been read.

        Raises:
            Problem: queue_full, pixels_full.
        """
        with_room = [modality for modality in modalities if self.batcher.has_room(modality, coming[modality])]
        if not with_room:
            raise Problem("queue_full")
        if with_room == ["image"] and not self._workers.undecoded.has_room:
            raise Problem("pixels_full")

    async def embed_images(
        self, images: Sequence[bytes | ItemError], ask: Ask, deadline: float, trace: Trace
    ) -> list[Outcome]:
        """Decode and embed; an outcome for each image in order. Images go to the batcher as they are decoded.

        Raises:
            Problem: batch_too_large, queue_full or pixels_full before anything is decoded, deadline_exceeded.
        """

        async def one(index: int, image: bytes | ItemError) -> Outcome:
            if isinstance(image, ItemError):
                return image
            try:
                try:
                    pixels = await self._timed("decode", self._workers.images.decode(image), trace)
                finally:
                    decoded(index)
                [future] = self._submit("image", [ask.query(pixels)], deadline)
                return await self._answer("image", future, trace)
            except Exception as error:
                return ItemError(f"/images/{index}", item_code(error))

        with ExitStack() as stack:
            stack.enter_context(self._admit("image", len(images)))
            counts = await within(deadline, self._count_pixels(images))
            if not self._workers.undecoded.has_room:
                raise Problem("pixels_full")
            decoded = stack.enter_context(self._workers.undecoded.share(counts))
            outcomes = await within(deadline, together([one(i, image) for i, image in enumerate(images)]))
        self._observe_items("image", outcomes)
        return outcomes

    async def embed_texts(
        self, texts: Sequence[str], pointers: Sequence[str], ask: Ask, deadline: float, trace: Trace
    ) -> tuple[list[Outcome], list[bool]]:
        """Check, tokenise and embed; an outcome for each text in order, and whether it was cut.

        Raises:
            Problem: batch_too_large or queue_full before anything is tokenised, deadline_exceeded.
        """
        with self._admit("text", len(texts)):
            if sum(map(len, texts)) <= _SHORT_CHARACTERS:
                started = time.perf_counter()
                rows = self._tokenize(texts, pointers, deadline)
                self._note("tokenize", time.perf_counter() - started, trace)
            else:
                work = self._tokenize_by_turns(texts, pointers, deadline)
                rows = await within(deadline, self._timed("tokenize", work, trace))
            trace.texts += [row for row in rows if isinstance(row, Tokenised)]
            queries = [ask.query(row.ids) for row in rows if not isinstance(row, ItemError)]
            futures = iter(self._submit("text", queries, deadline))

            async def one(index: int, future: Future[Done[Answer]]) -> Outcome:
                try:
                    return await self._answer("text", future, trace)
                except Exception as error:
                    return ItemError(pointers[index], item_code(error))

            work_by_row = [
                _same(row) if isinstance(row, ItemError) else one(index, next(futures))
                for index, row in enumerate(rows)
            ]
            outcomes = await within(deadline, together(work_by_row))
        self._observe_items("text", outcomes)
        truncated = [not isinstance(row, ItemError) and row.truncated for row in rows]
        self._metrics.truncated.inc(sum(truncated))
        return outcomes, truncated

    async def refine(
        self,
        modality: Modality,
        embeddings: FloatArray,
        k: int,
        deadline: float,
        trace: Trace,
        *,
        weight: float | None = None,
    ) -> FloatArray:
        """Refine embeddings (N, D) that are already there, a part waiting at a time: (N, D).

        Raises:
            Problem: queue_full, deadline_exceeded, out_of_memory, memory_unavailable.
        """
        refined: list[FloatArray] = []
        for start in range(0, len(embeddings), self.part_size):
            rows = embeddings[start : start + self.part_size]
            with self._admit(modality, len(rows)):
                queries = [Query(row, enhance=True, k=k, weight=weight) for row in rows]
                work = [self._answer(modality, future, trace) for future in self._submit(modality, queries, deadline)]
                answers = await as_problem(within(deadline, together(work)))
                if any(answer.degraded for answer in answers):  # whoever refines classes has no use for plain ones
                    raise Problem("memory_unavailable")
                refined += [answer.embedding for answer in answers]
        return np.stack(refined)

    async def weigh(
        self, classes: FloatArray, labels: Sequence[str], k: int, deadline: float, trace: Trace, *, refine: bool
    ) -> tuple[LabelSetWeights, list[Answer]]:
        """Weigh a label set by its classes (C, D), and refine these if asked for; see `weighing.weigh_classes`.

        Raises:
            Problem: deadline_exceeded, out_of_memory.
        """

        def refuse_in_vain() -> None:
            if left or time.monotonic() > deadline:  # nobody waits for it, and others wait for this thread
                raise Problem("deadline_exceeded")

        job = partial(
            weigh_classes,
            self.engine.composed,
            classes,
            labels,
            k,
            refine=refine,
            part_size=self.part_size,
            before_part=refuse_in_vain,
        )
        started, left = time.perf_counter(), False
        try:
            work = self._workers.weigh(job, short=len(labels) <= self.part_size)
            weights, answers = await as_problem(within(deadline, work))
        finally:
            left = True
            trace.weigh = time.perf_counter() - started  # the wait for the thread included
            self._metrics.observe_stages({"weigh": trace.weigh})
        for answer in answers:
            self._observe_answer("text", answer)
        return weights, answers

    async def probe(self, *modalities: Modality, within_s: float | None = None) -> None:
        """Send an item of our own through every stage, without a permit: a full queue refuses no probe.

        Args:
            modalities: of each one item.
            within_s: seconds it may take; None is a request's time.
        """
        deadline = self.deadline() if within_s is None else time.monotonic() + within_s
        ask = Ask(enhance=self.engine.can_enhance, k=self.engine.default_k(self._settings.k), neighbours=True)

        async def one(modality: Modality) -> None:
            content: Content
            if modality == "image":
                content = await self._workers.images.decode(CANARY_IMAGE)
            else:
                work = partial(self.engine.tokenize, _CANARY_TEXT)
                content = (await asyncio.get_running_loop().run_in_executor(self._workers.texts, work)).ids
            [future] = self._submit(modality, [ask.query(content)], deadline)
            await self._finish(future, Trace())

        await within(deadline, together([one(modality) for modality in modalities]))

    async def _count_pixels(self, images: Sequence[bytes | ItemError]) -> list[int]:
        count = partial(pixels_by_headers, images, self._settings.max_image_pixels)
        if sum(len(image) for image in images if isinstance(image, bytes)) <= _SHORT_BYTES:
            return count()
        return await asyncio.to_thread(count)

    async def _tokenize_by_turns(
        self, texts: Sequence[str], pointers: Sequence[str], deadline: float
    ) -> list[ItemError | Tokenised]:
        """In the thread for texts, some at a time: what other requests bring comes in between."""
        loop, rows = asyncio.get_running_loop(), list[ItemError | Tokenised]()
        for start in range(0, len(texts), _TEXTS_A_TURN):
            part = slice(start, start + _TEXTS_A_TURN)
            job = partial(self._tokenize, texts[part], pointers[part], deadline)
            rows += await loop.run_in_executor(self._workers.texts, job)
        return rows

    def _tokenize(self, texts: Sequence[str], pointers: Sequence[str], deadline: float) -> list[ItemError | Tokenised]:
        rows: list[ItemError | Tokenised] = []
        for text, pointer in zip(texts, pointers, strict=True):
            if time.monotonic() > deadline:  # nobody waits for the rest, and others wait for this thread
                raise Problem("deadline_exceeded")
            try:
                rows.append(self.engine.tokenize(text))
            except InputError as error:
                rows.append(ItemError(pointer, known_code(error.code)))
        return rows

    async def _timed(self, stage: str, work: Awaitable[Result], trace: Trace) -> Result:
        """Await work in a pool; the seconds include the wait for a free worker."""
        started = time.perf_counter()
        try:
            return await work
        finally:
            self._note(stage, time.perf_counter() - started, trace)

    def _note(self, stage: str, seconds: float, trace: Trace) -> None:
        trace.prepare(stage, seconds)
        self._metrics.observe_stages({stage: seconds})

    def _submit(self, modality: Modality, queries: Sequence[Query], deadline: float) -> Sequence[Future[Done[Answer]]]:
        try:
            return self._workers.submit(self.engine, modality, queries, deadline)
        except BatcherStopped:
            raise Problem("not_ready") from None

    async def _answer(self, modality: Modality, future: Future[Done[Answer]], trace: Trace) -> Answer:
        answer = await self._finish(future, trace)
        self._observe_answer(modality, answer)
        return answer

    async def _finish(self, future: Future[Done[Answer]], trace: Trace) -> Answer:
        done = await asyncio.wrap_future(future)
        trace.add(done)
        self._metrics.observe_stages({"queue": done.queue_seconds})
        self._metrics.queue_wait.labels(done.batch.modality).observe(done.queue_seconds)
        if done.answer.degraded and self._settings.memory_away == "refuse":
            raise Problem("memory_unavailable")
        return done.answer

    @contextmanager
    def _admit(self, modality: Modality, count: int) -> Iterator[None]:
        """The batcher's permit, with its refusal in the words of the API."""
        most = self._settings.max_queue_items
        if count > most:  # to come back later would not help
            raise Problem("batch_too_large", extensions={"limit": most})
        with ExitStack() as stack:
            try:
                stack.enter_context(self.batcher.admit(modality, count))
            except QueueFull:
                raise Problem("queue_full") from None
            yield

    def _observe_items(self, modality: Modality, outcomes: Sequence[Outcome]) -> None:
        failed = sum(isinstance(outcome, ItemError) for outcome in outcomes)
        self._metrics.items.labels(modality, "ok").inc(len(outcomes) - failed)
        self._metrics.items.labels(modality, "failed").inc(failed)

    def _observe_answer(self, modality: Modality, answer: Answer) -> None:
        if answer.found is not None and len(answer.found.similarities):
            self._metrics.retrieval_similarity.labels(modality).observe(float(answer.found.similarities[0]))
        if answer.degraded:
            self._metrics.degraded.labels(modality).inc()
        if answer.refined is not None:
            self._metrics.fusion_shift.labels(modality).observe(float(answer.original @ answer.refined))


async def _same(value: Result) -> Result:
    return value
