"""`POST /classify`."""

import asyncio
from collections.abc import Coroutine
from functools import partial
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from service import answers
from service.classify import (
    DEFAULT_TEMPLATES,
    Classes,
    check_labels,
    check_templates,
    embed_classes,
    refine_images,
)
from service.image_forms import ImageRequest
from service.lifecycle import Service
from service.pipeline import Ask, Outcome
from service.problems import ItemError, Problem
from service.receive import unless_client_leaves
from service.routes.embed import LARGE_ANSWER_NUMBERS, choose_k, off_loop, receive_images, refuse_bad_items
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
from service.schemas import ClassifyAnswer, ClassifyOptions, ClassifyRequest, EnhanceMode
from service.trace import Trace

_EXAMPLES = {
    "labels": {"images": [BASE64_PIXEL], "labels": ["puffin", "razorbill"]},
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
        responses={**answer(ClassifyAnswer), **problems(*TRANSPORT, *IMAGES, *TEXTS, *LABELS)},
        openapi_extra={
            "parameters": query_parameters(ClassifyOptions),
            "requestBody": image_body(ClassifyRequest, ClassifyOptions, _EXAMPLES),
        },
    )
    async def classify(request: Request) -> Response:
        """Zero-shot: images in any of the three forms, against labels named in the request.

        In a form or a query, `labels` and `templates` are JSON lists in one field each. `trust` in the answer, where
        the fusion measures it, says how far the memory was trusted for these labels: 0 is the frozen encoder.
        """
        sent = await receive_images(request, service, ClassifyOptions, ClassifyRequest)
        return await unless_client_leaves(request, _classify(request, service, sent))

    return routes


async def _classify(request: Request, service: Service, sent: ImageRequest) -> Response:
    settings, pipeline = service.settings, service.pipeline
    options: ClassifyOptions = sent.options
    templates = DEFAULT_TEMPLATES if options.templates is None else options.templates
    check_labels(options.labels, settings)
    check_templates(templates, len(options.labels), settings)
    mode, k = _mode_of(service, options), choose_k(service, options.k)
    deadline, trace = pipeline.deadline(), Trace()

    # A label set's weights are known once its classes are embedded: until then its images wait un-enhanced.
    refined, weighed = mode in ("both", "image"), pipeline.engine.weighs_label_sets
    ask = Ask(enhance=refined and not weighed, k=k)
    images = pipeline.embed_images(sent.images, ask, deadline, trace)
    classes = embed_classes(
        pipeline,
        options.labels,
        templates,
        mode=mode,
        k=k,
        deadline=deadline,
        trace=trace,
    )
    outcomes, class_embeddings = await _both(images, classes)
    if refined and class_embeddings.trust is not None:
        outcomes = await refine_images(pipeline, outcomes, class_embeddings.trust.image, k, deadline, trace)
    request.state.timing = trace.seconds()
    refuse_bad_items(outcomes, options.on_error)

    engine, model = pipeline.engine, service.model_name
    render = partial(answers.classify_json, engine, model, outcomes, class_embeddings, options, mode=mode)
    content = await off_loop(render, large=len(outcomes) * len(options.labels) > LARGE_ANSWER_NUMBERS)
    headers = answers.headers(engine, model, enhanced=mode != "none")
    return Response(content, media_type="application/json", headers=headers)


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
    try:
        async with asyncio.TaskGroup() as group:
            image_task, class_task = group.create_task(images), group.create_task(classes)
    except* Exception as failures:
        raise failures.exceptions[0] from None
    return image_task.result(), class_task.result()
