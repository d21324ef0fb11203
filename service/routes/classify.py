"""`POST /classify`."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from models.texts.prompts import DEFAULT_TEMPLATES
from service import rendering
from service.classes.class_cache import class_key, free
from service.classes.class_embeddings import (
    Classes,
    check_labels,
    check_templates,
    embed_classes,
    refine_images,
)
from service.classes.label_embeddings import embedded_with
from service.door.receive import unless_client_leaves
from service.forms.images import ImageRequest
from service.lifecycle import Service
from service.pipeline.degrading import plain_if_degraded
from service.pipeline.pipeline import Ask, Outcome
from service.pipeline.trace import Trace
from service.pipeline.waiting import together
from service.problems import ItemError, Problem
from service.routes.off_loop import LARGE_ANSWER_NUMBERS, off_loop
from service.routes.openapi import (
    BASE64_PIXEL,
    IMAGES,
    LABELS,
    TEXTS,
    TRANSPORT,
    answer,
    image_body,
    problems,
    query_parameters,
)
from service.routes.receiving import choose_k, receive_images, refuse_bad_items
from service.schemas.answers import ClassifyAnswer
from service.schemas.requests import ClassifyOptions, ClassifyRequest, EnhanceMode
from service.settings import Settings

_LARGE_CLASSES_CHARACTERS = 1000  # beyond it, checking leaves the loop: a label beyond ASCII takes half a millisecond

_EXAMPLES = {
    "labels": {"images": [BASE64_PIXEL], "labels": ["puffin", "razorbill"]},
    "best": {"images": [BASE64_PIXEL], "labels": ["puffin", "razorbill", "guillemot"], "top_k": 2},
    "compare": {
        "images": [f"data:image/gif;base64,{BASE64_PIXEL}"],
        "labels": ["puffin", "razorbill"],
        "templates": ["a photo of a {}.", "a {} at sea"],
        "enhance": "both",
        "compare": True,
    },
}


def router(service: Service) -> APIRouter:
    """The classify route of an app."""
    routes = APIRouter(tags=["classify"])

    @routes.post(
        "/classify",
        operation_id="classify",
        summary="Classify images against labels",
        responses={
            **answer(ClassifyAnswer),
            **problems(*TRANSPORT, *IMAGES, *TEXTS, *LABELS, "option_conflict", "label_set_not_found"),
        },
        openapi_extra={
            "parameters": query_parameters(ClassifyOptions),
            "requestBody": image_body(ClassifyRequest, ClassifyOptions, _EXAMPLES),
        },
    )
    async def classify(request: Request) -> Response:
        """Zero-shot: images in any of the three forms, against labels or a label set named in the request.

        In a form or a query, `labels` and `templates` are JSON lists in one field each. `trust` in the answer, where
        the fusion measures it, says how far the memory was trusted for these labels: 0 is the frozen encoder. A label
        that captions near to it mention, word for word, finds those (of several labels in one caption the longest, then
        the first): name things as the captions do.
        """
        sent = await receive_images(request, service, ClassifyOptions, ClassifyRequest)
        return await unless_client_leaves(request, _classify_or_degrade(request, service, sent))

    return routes


async def _classify_or_degrade(request: Request, service: Service, sent: ImageRequest) -> Response:
    """Without the memory where that is away and the settings prefer a plain answer to none; in the time of one."""
    mode, deadline = _mode_of(service, sent.options), service.pipeline.deadline()
    try:
        return await _classify(request, service, sent, mode, deadline)
    except Problem as problem:
        if problem.code != "memory_unavailable" or service.settings.memory_away == "refuse":
            raise
    return await _classify(request, service, sent, "none", deadline, degraded=True)


async def _classify(
    request: Request,
    service: Service,
    sent: ImageRequest,
    mode: EnhanceMode,
    deadline: float,
    *,
    degraded: bool = False,
) -> Response:
    pipeline, options = service.pipeline, sent.options
    engine, model = pipeline.engine, service.model_name
    labels, templates = await _classes_asked(service, options)
    k = choose_k(service, options.k)
    check = partial(_check_classes, labels, templates, service.settings)
    characters = sum(map(len, labels)) + sum(map(len, templates))
    if characters > _most_characters(service.settings):
        await off_loop(check, large=True)  # ends here: the key of what fills a body would hold the loop for a second
    key = class_key(engine, labels, templates, mode, k)
    known = service.class_cache.peek(key)
    if known is None:  # else they were checked when they were embedded
        await off_loop(check, large=characters > _LARGE_CLASSES_CHARACTERS)
    trace = Trace()

    # A label set's weights are known once its classes are embedded: until then its images wait un-enhanced.
    refined = mode in ("both", "image")
    waiting = refined and engine.weighs_label_sets and known is None
    weight = known.trust.image if known is not None and known.trust is not None and refined else None
    images = pipeline.embed_images(sent.images, Ask(refined and not waiting, k, weight=weight), deadline, trace)
    kept = service.label_embeddings
    embed = partial(embed_classes, pipeline, kept, labels, templates, mode, k, trace)
    charge = getattr(request.state, "charge", free)  # no limit applies on the operator's port

    def missing() -> int:
        return (len(labels) - len(kept.find(embedded_with(engine, templates), labels))) * len(templates)

    def pay() -> Callable[[], None]:
        paid = missing()
        give_back = charge(paid)
        return lambda: give_back(min(paid, missing()))  # labels that were embedded before it ended are kept

    outcomes, classes = await _both(images, service.class_cache.get(key, deadline, embed, pay))
    if waiting and classes.trust is not None:
        outcomes = await refine_images(pipeline, outcomes, classes.trust.image, k, deadline, trace)
    request.state.timing = trace.seconds()
    refuse_bad_items(outcomes, options.on_error, service.settings)
    if plain_if_degraded(outcomes)[1]:
        raise Problem("memory_unavailable")

    render = partial(
        rendering.classify_json, engine, model, outcomes, classes, labels, options, mode=mode, degraded=degraded
    )
    content = await off_loop(render, large=len(outcomes) * len(labels) > LARGE_ANSWER_NUMBERS)
    headers = rendering.headers(engine, model, enhanced=mode != "none", degraded=degraded)
    return Response(content, media_type="application/json", headers=headers)


async def _classes_asked(service: Service, options: ClassifyOptions) -> tuple[Sequence[str], Sequence[str]]:
    """Labels and templates, from the request or from the label set that it names.

    Raises:
        Problem: field_missing, option_conflict, label_set_not_found.
    """
    if options.labels is not None and options.label_set is not None:
        where = ItemError("/label_set", "option_conflict")
        raise Problem("option_conflict", errors=[where], extensions={"expected": "labels or label_set, not both"})
    labels: Sequence[str] | None = options.labels
    templates: Sequence[str] | None = options.templates
    if options.label_set is not None:
        named = await asyncio.to_thread(service.label_sets.get, options.label_set)
        labels, templates = named.labels, named.templates if templates is None else templates
    if labels is None:
        expected = "labels, or the name of a label_set"
        raise Problem(
            "field_missing", errors=[ItemError("/labels", "field_missing")], extensions={"expected": expected}
        )
    return labels, DEFAULT_TEMPLATES if templates is None else templates


def _check_classes(labels: Sequence[str], templates: Sequence[str], settings: Settings) -> None:
    check_labels(labels, settings)
    check_templates(templates, labels, settings)


def _most_characters(settings: Settings) -> int:
    """Of labels and templates together that can be acceptable."""
    of_templates = settings.max_templates * settings.max_text_characters
    return settings.max_labels * settings.max_label_characters + of_templates


def _mode_of(service: Service, options: ClassifyOptions) -> EnhanceMode:
    can_enhance = service.pipeline.engine.can_enhance
    if options.enhance is None:
        return "both" if can_enhance else "none"
    if options.enhance != "none" and not can_enhance:
        raise Problem("enhancement_unavailable", errors=[ItemError("/enhance", "enhancement_unavailable")])
    return options.enhance


async def _both(
    images: Coroutine[Any, Any, list[Outcome]], classes: Coroutine[Any, Any, Classes]
) -> tuple[list[Outcome], Classes]:
    """Images are decoded while class texts are encoded; the failure of one side ends the other."""
    sides: list[Coroutine[Any, Any, Any]] = [classes, images]  # these first: what their texts cost may be refused
    embedded_classes, outcomes = await together(sides)
    return outcomes, embedded_classes
