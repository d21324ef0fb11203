"""The named label sets, embedded and weighed before somebody asks for one: after the start, a reload, a change of one.

The first request for a set would wait for all its prompts and for what each label finds in the memory, which for a
thousand labels is longer than a request may take. One set after the other; who asks with few labels waits for none.
Async. Depends on the modules beside it, pipeline, problems and settings.
"""

import asyncio
import logging
import time
from functools import partial
from typing import Final

from models.texts.prompts import DEFAULT_TEMPLATES
from service.classes.class_cache import OVERHEAD_BYTES, ClassCache, class_key, free
from service.classes.class_embeddings import check_templates, embed_classes
from service.classes.label_embeddings import LabelEmbeddings
from service.classes.label_sets import LabelSet, LabelSets
from service.pipeline.pipeline import Pipeline
from service.pipeline.trace import Trace
from service.problems import Problem
from service.schemas.requests import EnhanceMode
from service.settings import Settings

logger = logging.getLogger("reco.label_sets")

PATIENCE_S: Final = 600.0  # with one set; whoever asks for it meanwhile keeps to a deadline of their own
_PAUSE_S: Final = 1.0  # before a set is tried again for which the queue had no room
_USED: Final = 0.25  # of what may be kept, half of what is kept of sets: the rest is for what requests bring


class Preparation:
    """Prepares the named label sets of a service, as often as there is something new."""

    def __init__(self, label_sets: LabelSets, cache: ClassCache, kept: LabelEmbeddings, settings: Settings) -> None:
        self._label_sets, self._cache, self._kept, self._settings = label_sets, cache, kept, settings

    async def prepare(self, pipeline: Pipeline) -> None:
        """Every set as a request that chooses nothing asks for it; what cannot be prepared is a line in the log."""
        started, prepared = time.monotonic(), 0
        room = _USED * self._settings.class_cache_bytes
        for name in await asyncio.to_thread(self._label_sets.names):
            try:
                named = await asyncio.to_thread(self._label_sets.get, name)
                each = 2 * 4 * pipeline.engine.encoder.embed_dim  # original and refined, float32
                room -= len(named.labels) * each + OVERHEAD_BYTES
                if room < 0:
                    logger.info("label sets from %s on wait for who asks: no room in RECO_CLASS_CACHE_BYTES", name)
                    break
                prepared += await self._prepare(pipeline, named)
            except Problem as problem:
                logger.warning("label set %s could not be prepared: %s", name, problem.code)
        if prepared:
            logger.info("label sets: %d prepared in %.1f s", prepared, time.monotonic() - started)

    async def _prepare(self, pipeline: Pipeline, named: LabelSet) -> bool:
        """Whether there was anything to do."""
        engine, deadline = pipeline.engine, time.monotonic() + PATIENCE_S
        mode: EnhanceMode = "both" if engine.can_enhance else "none"
        k, templates = engine.default_k(self._settings.k), named.templates or DEFAULT_TEMPLATES
        check_templates(templates, named.labels, self._settings)  # our own are not checked when a set is read
        key = class_key(engine, named.labels, templates, mode, k)
        if self._cache.peek(key) is not None:
            return False
        embed = partial(embed_classes, pipeline, self._kept, named.labels, templates, mode, k, Trace())
        while True:
            try:
                await self._cache.get(key, deadline, embed, free)
            except Problem as problem:
                if problem.code != "queue_full":
                    raise
                await asyncio.sleep(_PAUSE_S)
            else:
                return True
