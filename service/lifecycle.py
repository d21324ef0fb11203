"""From starting to ready or broken: loads the engine beside the event loop, and probes it with real items.

Depends on engine, pipeline, metrics, problems and settings.
"""

import asyncio
import logging
import time
from typing import Any

from service.engine import Engine
from service.metrics import Metrics
from service.pipeline import Pipeline
from service.problems import Problem
from service.settings import Settings

logger = logging.getLogger("reco.lifecycle")

CANARY_FRESH_S = 5.0  # a probe every few seconds must not become load of its own
_CANARY_TEXT = "a photo"
# The smallest GIF: one grey pixel.
_CANARY_IMAGE = bytes.fromhex("47494638396101000100800000808080ffffff2c00000000010001000002024401003b")
OPEN_WITHOUT_KEYS = "open_without_keys"


class Service:
    """One process's service: its settings and metrics, and its pipeline once that is loaded."""

    def __init__(self, settings: Settings, engine: Engine | None = None) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.reason: str | None = "starting"  # why it is not ready; None when it is
        self._engine = engine
        self._pipeline: Pipeline | None = None
        self._loading: asyncio.Task[None] | None = None
        self._canary = asyncio.Lock()

    @property
    def warnings(self) -> list[str]:
        """What an operator should know, as codes."""
        return [OPEN_WITHOUT_KEYS] if self.settings.listens_beyond_loopback else []

    @property
    def pipeline(self) -> Pipeline:
        """The loaded pipeline.

        Raises:
            Problem: not_ready, with the reason.
        """
        if self.reason is not None or self._pipeline is None:
            raise self._not_ready(self.reason or "starting")
        return self._pipeline

    @property
    def model_name(self) -> str:
        """The model's name in answers."""
        return self.settings.served_model_name or self.pipeline.engine.encoder.name

    def start(self) -> None:
        """Begin to load; returns at once."""
        if OPEN_WITHOUT_KEYS in self.warnings:
            logger.warning("listening on %s without keys: anybody who reaches the port may use it", self.settings.host)
        self._loading = asyncio.create_task(self._load())

    async def wait_until_loaded(self) -> None:
        """Return when loading has ended, well or badly."""
        if self._loading is not None:
            await asyncio.shield(self._loading)

    async def stop(self) -> None:
        """End the pipeline's threads."""
        self.reason = "stopping"
        if self._loading is not None:
            await asyncio.gather(self._loading, return_exceptions=True)
        if self._pipeline is not None:
            await asyncio.to_thread(self._pipeline.stop)

    async def check_ready(self) -> None:
        """Raise unless an image and a text went through the whole path within the last seconds.

        Raises:
            Problem: not_ready, with the reason.
        """
        pipeline = self.pipeline
        async with self._canary:  # probes that come together share one canary
            last = pipeline.batcher.last_success
            if pipeline.batcher.alive and last is not None and time.monotonic() - last < CANARY_FRESH_S:
                return
            try:
                await self._send_canary(pipeline)
            except Exception as error:
                logger.warning("the canary failed", exc_info=error)
                raise self._not_ready("canary_failed") from None

    async def _load(self) -> None:
        """Never raises: a service that cannot load stays up and says why."""
        try:
            if self._engine is None:
                self._engine = await asyncio.to_thread(Engine.open, self.settings)
            if self._engine.default_k(self.settings.k) > self._engine.largest_k(self.settings.max_k):
                raise Problem("k_out_of_range")  # RECO_K, or the fusion's own k, beyond RECO_MAX_K or the fusion's most
            self._pipeline = Pipeline(self._engine, self.settings, self.metrics)
            self._pipeline.start()
            await self._send_canary(self._pipeline)
        except Exception as error:
            # Our own errors carry a stable code; their message, with paths, goes to the log only.
            code = getattr(error, "code", None)
            self.reason = code if isinstance(code, str) else "load_failed"
            logger.error("not ready: %s", self.reason, exc_info=error)
            return
        self._describe(self._engine)
        if self.reason == "starting":
            self.reason = None
        logger.info("ready: %s, memory version %d", self._engine.encoder.name, self._engine.memory.version)

    def _describe(self, engine: Engine) -> None:
        self.metrics.describe(
            model=self.settings.served_model_name or engine.encoder.name,
            fusion=engine.fusion_id,
            memory_version=engine.memory.version,
            digest=engine.memory.digest,
            num_items=engine.memory.num_items,
        )

    @staticmethod
    async def _send_canary(pipeline: Pipeline) -> None:
        """One image and one text through every stage."""
        await pipeline.probe(_CANARY_IMAGE, _CANARY_TEXT)

    def _not_ready(self, reason: str) -> Problem:
        return Problem("not_ready", extensions={"reason": reason})


def ready_details(service: Service) -> dict[str, Any]:
    """The body of a good readiness answer."""
    engine = service.pipeline.engine
    return {"status": "ready", "memory_version": engine.memory.version, "warnings": service.warnings}
