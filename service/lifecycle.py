"""From starting to ready or broken: loads the engine beside the event loop, probes it with real items, and swaps
in a newer memory or fusion without a pause.

Depends on access, engine, generation, pipeline, workers, metrics, problems and settings.
"""

import asyncio
import contextvars
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from memory import Modality
from service.classes.class_cache import ClassCache
from service.classes.label_embeddings import LabelEmbeddings
from service.classes.label_sets import LabelSets
from service.classes.preparing import Preparation
from service.door.access import Access
from service.generation import Generations
from service.memory_watch import watch_memory
from service.observing.logs import RefusalLog
from service.observing.loop_lag import measure_lag
from service.observing.metrics import Metrics
from service.pipeline.batch import LANES
from service.pipeline.engine import Engine
from service.pipeline.own_thread import in_its_own_thread
from service.pipeline.pipeline import Pipeline
from service.pipeline.workers import Workers
from service.problems import Problem
from service.settings import Settings, SettingsError

logger = logging.getLogger("reco.lifecycle")

MEMORY_UNAVAILABLE = "memory_unavailable"
_MAY_COME_BACK = (MEMORY_UNAVAILABLE, "store_unavailable")
UNKNOWN = "load_failed"  # why it is not ready, where the error has no code of its own
AWAY_S = 5.0  # between two looks for a memory that was away at the start
_ENOUGH_S = 0.25  # of work ahead: two batches, and many pauses of the requests that begin by turns
CANARY_FRESH_S = 5.0  # a probe every few seconds must not become load of its own
_FIRST_PROBE_S = 120.0  # it warms everything up, and may read the memory from a cold disk beside others who do
OPEN_WITHOUT_KEYS = "open_without_keys"
LABEL_SET_REFUSED = "label_set_refused"


@dataclass(frozen=True)
class Reload:
    """How a reload ended: whether anything is new, and what is served now."""

    changed: bool
    engine: Engine


class Service:
    """One process's service: its settings and metrics, and what it answers from once that is loaded."""

    def __init__(self, settings: Settings, engine: Engine | None = None) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.label_sets = LabelSets.open(settings)
        each = settings.class_cache_bytes // 2
        self.class_cache, self.label_embeddings = ClassCache(each, self.metrics), LabelEmbeddings(each)
        self.metrics.class_cache_bytes.set_function(lambda: self.class_cache.bytes + self.label_embeddings.bytes)
        self.access = Access(settings)
        self.refusal_log = RefusalLog()
        self.reason: str | None = "starting"  # why it is not ready; None when it is
        self.draining = False  # asked to end: unready for load balancers, still answering
        self.reload_failure: str | None = None  # code of the last reload if it was refused
        self.changing = asyncio.Lock()  # held by whoever writes to the memory
        self._engine = engine  # given to start with
        self._generations = Generations()
        self._canary_failed = False  # the last one that a probe asked for
        self._canary_failed_at = -math.inf
        self.metrics.generations.set_function(lambda: self._generations.alive)
        self.metrics.ready.set_function(lambda: self.reason is None and not self._canary_failed)
        self._workers: Workers | None = None
        self._loading: asyncio.Task[None] | None = None
        self._background: list[asyncio.Task[None]] = []
        self._preparation = Preparation(self.label_sets, self.class_cache, self.label_embeddings, settings)
        self._preparing: asyncio.Task[None] | None = None
        self._reloading = asyncio.Lock()
        self._canary = asyncio.Lock()

    @property
    def warnings(self) -> list[str]:
        """What an operator should know, as codes."""
        return [OPEN_WITHOUT_KEYS] if self.settings.listens_beyond_loopback and not self.access.needs_key else []

    @property
    def pipeline(self) -> Pipeline:
        """The pipeline of the request that asks: one and the same from its start to its end.

        Raises:
            Problem: not_ready, with the reason.
        """
        pipeline = self._generations.mine()
        if self.reason is not None or pipeline is None:
            raise self._not_ready(self.reason or "starting")
        return pipeline

    def refuse_if_full(self, *modalities: Modality, coming: Mapping[Modality, int]) -> None:
        """Shed a request before it is read; see `Pipeline.refuse_if_full`.

        Raises:
            Problem: queue_full, not_ready.
        """
        self.pipeline.refuse_if_full(*modalities, coming=coming)

    def has_enough(self) -> bool:
        """Whether what computes has work for a while."""
        return self._workers is not None and self._workers.batcher.ahead_s >= _ENOUGH_S

    @property
    def items(self) -> int:
        """Images and texts that are admitted and not answered yet."""
        return 0 if self._workers is None else sum(map(self._workers.batcher.admitted, LANES))

    @property
    def model_name(self) -> str:
        """The model's name in answers."""
        return self.settings.served_model_name or self.pipeline.engine.encoder.name

    def start(self) -> None:
        """Begin to load; returns at once."""
        if OPEN_WITHOUT_KEYS in self.warnings:
            logger.warning("listening on %s without keys: anybody who reaches the port may use it", self.settings.host)
        if self.access.needs_key:
            logger.info(
                "every request needs an API key: one has the scope use (keys for operators only leave the service open)"
            )
        self._loading = asyncio.create_task(self._load())
        work = [self._load_when_back(), measure_lag(self.metrics)]
        if self.settings.watch_memory_s is not None and self.settings.backend == "faiss":
            work.append(watch_memory(self.settings, self.metrics, self._served, self.reload))
        self._background = [asyncio.create_task(one) for one in work]

    async def wait_until_loaded(self) -> None:
        """Return when loading has ended, well or badly."""
        if self._loading is not None:
            await asyncio.shield(self._loading)

    async def stop(self) -> None:
        """End the workers' threads. A load under way is left to itself: it may take an hour, and nothing stops it."""
        self.reason = "stopping"
        own = [*self._background, *(one for one in (self._loading, self._preparing) if one is not None)]
        for task in own:
            task.cancel()
        self.class_cache.stop()
        await asyncio.gather(*own, return_exceptions=True)
        if self._workers is not None:
            await asyncio.to_thread(self._workers.stop)

    async def check_ready(self) -> None:
        """Raise unless an image and a text went through the whole path within the last seconds.

        Raises:
            Problem: not_ready, with the reason.
        """
        pipeline = self.pipeline
        if self.draining:
            raise self._not_ready("draining")
        asked_at = time.monotonic()
        async with self._canary:  # probes that come together share one canary, whatever becomes of it
            if asked_at <= self._canary_failed_at:
                raise self._not_ready("canary_failed")
            batcher, fresh = pipeline.batcher, time.monotonic() - CANARY_FRESH_S
            # No image beside those that go through: it would wait behind them for longer than balancers wait for us.
            stale = [lane for lane in LANES if not (batcher.alive and batcher.last_success(lane) > fresh)]
            try:
                if stale:
                    await pipeline.probe(*stale)
            except Exception as error:
                self._canary_failed, self._canary_failed_at = True, time.monotonic()
                logger.warning("the canary failed", exc_info=error)
                raise self._not_ready("canary_failed") from None
            self._canary_failed = False

    async def reload_all(self) -> tuple[Reload, bool]:
        """What SIGHUP and the operator's route ask for: the keys that the file holds now, then the newest memory.

        Returns:
            How the reload ended, and whether the keys could be read; those known stay if not.

        Raises:
            Problem: as `reload`; the keys are read all the same.
        """
        keys_read = True
        try:
            self.access.reread()
        except SettingsError as error:
            logger.error("the keys stay as they were: %s", error)
            keys_read = False
        return await self.reload(), keys_read

    async def reload(self, *, wait: bool = False) -> Reload:
        """Open what the settings name beside what is served, check it, and swap it in if it is new.

        Args:
            wait: for a reload under way, instead of refusing.

        Raises:
            Problem: reload_in_progress; reload_refused with the reason, and what was served is served on.
        """
        if self._reloading.locked() and not wait:
            raise Problem("reload_in_progress")
        async with self._reloading:
            await self.wait_until_loaded()
            old = self._generations.newest
            self.metrics.reloads.inc()
            if old is None:
                await self._load()  # the start failed: what it could not open may be mended by now
                return Reload(True, self.pipeline.engine)
            try:
                engine = await asyncio.to_thread(Engine.around, old.engine.encoder, self.settings)
                changed = _contents(engine) != _contents(old.engine)
                if changed:
                    await self._take_over(engine)
                else:
                    self.prepare_label_sets()  # their files may be new
            except Exception as error:
                raise self._refused(error) from None
            self.reload_failure = None
            self.metrics.reload_refused.clear()
            return Reload(changed, engine if changed else old.engine)

    def _refused(self, error: Exception) -> Problem:
        """Keep in mind why nothing new is served."""
        code = _code(error)
        self.reload_failure = code
        self.metrics.reload_failures.labels(code).inc()
        self.metrics.reload_refused.clear()
        self.metrics.reload_refused.labels(code).set(1)
        told, cause = _told(error, code)
        logger.error("reload refused: %s: %s; what was served is served on", code, told, exc_info=cause)
        return Problem("reload_refused", extensions={"reason": code})

    async def _load(self) -> None:
        """Never raises: a service that cannot load stays up and says why."""
        try:
            engine, self._engine = self._engine, None
            if engine is None:
                engine = await asyncio.to_thread(in_its_own_thread, partial(Engine.open, self.settings), "reco-open")
            await self._take_over(engine)
        except Exception as error:
            code = _code(error)
            if self.reason != "stopping":
                self.reason = code
            told, cause = _told(error, code)
            logger.error("not ready: %s: %s (up, and tried again on SIGHUP)", code, told, exc_info=cause)
            return
        if self.reason != "stopping":
            self.reason = None

    async def _load_when_back(self) -> None:
        """A memory that is kept elsewhere and away at the start is asked for again until it is there."""
        await self.wait_until_loaded()
        while self.reason in _MAY_COME_BACK:
            await asyncio.sleep(AWAY_S)
            async with self._reloading:
                if self.reason in _MAY_COME_BACK:  # the watch, or SIGHUP, may have opened it meanwhile
                    await self._load()

    async def _take_over(self, engine: Engine) -> None:
        """Serve this engine from now on, if it can answer."""
        if engine.default_k(self.settings.k) > engine.largest_k(self.settings.max_k):
            raise Problem("k_out_of_range")  # RECO_K, or the fusion's own k, beyond RECO_MAX_K or the fusion's most
        if self._workers is None:
            self._workers = await self._started(Workers(self.settings, self.metrics, engine.encoder))
        pipeline = Pipeline(engine, self._workers, self.settings, self.metrics)
        with self._workers.watchdog.patient(_FIRST_PROBE_S):
            await pipeline.probe(*LANES, within_s=_FIRST_PROBE_S)
        self._generations.replace(pipeline)
        self.metrics.describe(
            model=self.settings.served_model_name or engine.encoder.name,
            fusion=engine.fusion_id,
            memory_version=engine.memory.version,
            digest=engine.memory.digest,
            num_items=engine.memory.num_items,
        )
        logger.info("serving: %s, memory version %d", engine.encoder.name, engine.memory.version)
        self.prepare_label_sets()

    def prepare_label_sets(self) -> None:
        """Begin to embed the named label sets for what is served now, those that are kept for it aside."""
        if self._preparing is not None:
            self._preparing.cancel()
        pipeline = self._generations.newest
        if pipeline is not None:
            work = self._preparation.prepare(pipeline)
            # In a context of its own: that of a request would hold the generation that the request began with.
            self._preparing = asyncio.get_running_loop().create_task(work, context=contextvars.Context())

    async def _started(self, workers: Workers) -> Workers:
        """All of them or none: the next try, on SIGHUP, makes new ones."""
        try:
            await asyncio.to_thread(workers.start)
        except Exception:
            await asyncio.to_thread(workers.stop)
            raise
        return workers

    def _served(self) -> int | None:
        pipeline = self._generations.newest
        return None if pipeline is None else pipeline.engine.memory.version

    def _not_ready(self, reason: str) -> Problem:
        return Problem("not_ready", extensions={"reason": reason})


def ready_details(service: Service, refused_label_sets: Sequence[str]) -> dict[str, Any]:
    """The body of a good readiness answer.

    Args:
        refused_label_sets: their names, which only those who may ask /label_sets are told.
    """
    engine = service.pipeline.engine
    told = {MEMORY_UNAVAILABLE: engine.memory_away, LABEL_SET_REFUSED: bool(refused_label_sets)}
    details: dict[str, Any] = {
        "status": "ready",
        "memory_version": engine.memory.version,
        "warnings": [*service.warnings, *(code for code, is_so in told.items() if is_so)],
    }
    if service.reload_failure is not None:
        details["reload_failure"] = service.reload_failure
    return details


def _contents(engine: Engine) -> tuple[int, str, str | None]:
    return engine.memory.version, engine.memory.digest, engine.fusion_id


def _code(error: Exception) -> str:
    """Our own errors carry a stable code; their message, with paths, goes to the log only."""
    code = getattr(error, "code", None)
    return code if isinstance(code, str) else UNKNOWN


def _told(error: Exception, code: str) -> tuple[str, Exception | None]:
    """What the log says of it. What has a code says what to do; its traceback would only stand before that."""
    return str(error).removeprefix(f"{code}: "), error if code == UNKNOWN else None
