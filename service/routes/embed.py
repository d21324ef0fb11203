"""`POST /embed/image` and `POST /embed/text`."""

import re
from collections.abc import Sequence
from functools import partial

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from memory import Modality
from service import rendering
from service.door.receive import unless_client_leaves
from service.forms.images import ImageRequest
from service.lifecycle import Service
from service.pipeline.degrading import plain_if_degraded
from service.pipeline.engine import Answer
from service.pipeline.pipeline import Ask, Outcome
from service.pipeline.trace import Trace
from service.problems import ItemError, Problem
from service.routes.direct import DirectRoute
from service.routes.off_loop import LARGE_ANSWER_NUMBERS, off_loop
from service.routes.openapi import (
    BASE64_PIXEL,
    IMAGES,
    TEXTS,
    TRANSPORT,
    answer,
    image_body,
    json_body,
    problems,
    query_parameters,
)
from service.routes.receiving import choose_k, receive_images, receive_json, refuse_bad_items
from service.schemas.answers import EmbedAnswer
from service.schemas.requests import EmbedImageRequest, EmbedOptions, EmbedTextRequest, validate


def router(service: Service) -> APIRouter:
    """The embed routes of an app."""
    routes = APIRouter(tags=["embed"], route_class=DirectRoute)

    @routes.post(
        "/embed/image",
        operation_id="embed_image",
        summary="Embed images",
        responses={**answer(EmbedAnswer, npy=True), **problems(*TRANSPORT, *IMAGES, "option_conflict")},
        openapi_extra={
            "parameters": query_parameters(EmbedOptions),
            "requestBody": image_body(EmbedImageRequest, EmbedOptions, _IMAGE_EXAMPLES),
        },
    )
    async def embed_image(request: Request) -> Response:
        """Images as JSON (base64 or data URIs), as multipart `files`, or one as the raw body."""
        sent = await receive_images(request, service, EmbedOptions, EmbedImageRequest)
        return await unless_client_leaves(request, _embed_images(request, service, sent))

    @routes.post(
        "/embed/text",
        operation_id="embed_text",
        summary="Embed texts",
        responses={**answer(EmbedAnswer, npy=True), **problems(*TRANSPORT, *TEXTS, "option_conflict")},
        openapi_extra={"requestBody": json_body(EmbedTextRequest, _TEXT_EXAMPLES)},
    )
    async def embed_text(request: Request) -> Response:
        """One text or a list. A text over the encoder's context is cut, and says `truncated: true`."""
        options = await _receive_texts(request, service)
        return await unless_client_leaves(request, _embed_texts(request, service, options))

    return routes


async def _receive_texts(request: Request, service: Service) -> EmbedTextRequest:
    settings = service.settings
    values, _ = await receive_json(request, settings)
    options = validate(EmbedTextRequest, values)
    if not options.texts:
        raise Problem("batch_empty")
    if len(options.texts) > settings.max_texts:
        raise Problem("batch_too_large", extensions={"limit": settings.max_texts})
    request.state.items = len(options.texts)
    request.state.pointers = _text_pointers(values["texts"])
    return options


def _text_pointers(texts: str | list[str]) -> list[str]:
    return ["/texts"] if isinstance(texts, str) else [f"/texts/{index}" for index in range(len(texts))]


async def _embed_images(request: Request, service: Service, sent: ImageRequest) -> Response:
    pipeline, options = service.pipeline, sent.options
    npy = wants_npy(request, options)
    ask = ask_of(service, options, "image")
    trace = Trace()
    outcomes = await pipeline.embed_images(sent.images, ask, pipeline.deadline(), trace)
    request.state.timing = trace.seconds()
    return await _answer(service, outcomes, options, ask, npy=npy)


async def _embed_texts(request: Request, service: Service, options: EmbedTextRequest) -> Response:
    pipeline = service.pipeline
    npy = wants_npy(request, options)
    ask = ask_of(service, options, "text")
    trace = Trace()
    outcomes, truncated = await pipeline.embed_texts(
        options.texts, request.state.pointers, ask, pipeline.deadline(), trace
    )
    request.state.timing = trace.seconds()
    return await _answer(service, outcomes, options, ask, npy=npy, truncated=truncated)


async def _answer(
    service: Service,
    outcomes: Sequence[Outcome],
    options: EmbedOptions,
    ask: Ask,
    *,
    npy: bool,
    truncated: Sequence[bool] | None = None,
) -> Response:
    engine, model = service.pipeline.engine, service.model_name
    refuse_bad_items(outcomes, options.on_error, service.settings)
    outcomes, degraded = plain_if_degraded(outcomes)
    headers = rendering.headers(engine, model, enhanced=ask.enhance, degraded=degraded)
    if npy:
        found = [outcome for outcome in outcomes if isinstance(outcome, Answer)]
        if truncated is not None and any(truncated):
            headers["X-Reco-Truncated"] = ",".join(str(index) for index, cut in enumerate(truncated) if cut)
        return Response(rendering.embed_npy(found), media_type=rendering.NPY_MEDIA_TYPE, headers=headers)
    render = partial(
        rendering.embed_json,
        engine,
        model,
        outcomes,
        options,
        enhanced=ask.enhance,
        degraded=degraded,
        truncated=truncated,
    )
    numbers = len(outcomes) * engine.encoder.embed_dim * (1 + options.return_original)
    large = options.return_neighbours or numbers > LARGE_ANSWER_NUMBERS
    content = await off_loop(render, large=large)
    return Response(content, media_type="application/json", headers=headers)


def wants_npy(request: Request, options: EmbedOptions) -> bool:
    """Whether the client asked for a plain array, which has room for embeddings only.

    Raises:
        Problem: option_conflict, if it asked for more than that.
    """
    accepted = dict(map(_with_weight, request.headers.get("accept", "").lower().split(",")))
    if not accepted.get(rendering.NPY_MEDIA_TYPE, 0) > 0:
        return False
    if accepted[rendering.NPY_MEDIA_TYPE] < accepted.get("application/json", 0):
        return False
    more = options.return_original or options.return_neighbours or options.encoding_format != "float"
    if more or options.on_error == "partial":
        expected = "no return_original, return_neighbours, encoding_format or on_error beside Accept: application/x-npy"
        raise Problem("option_conflict", extensions={"expected": expected})
    return True


def _with_weight(accepted: str) -> tuple[str, float]:
    """A media type of Accept and how much it is wanted, from 0 to 1."""
    media_type, *parameters = (part.strip() for part in accepted.split(";"))
    weights = [_WEIGHT.fullmatch(parameter) for parameter in parameters]
    return media_type, next((float(weight[1]) for weight in weights if weight), 1.0)


def ask_of(service: Service, options: EmbedOptions, modality: Modality) -> Ask:
    """The options with the service's defaults filled in.

    Raises:
        Problem: enhancement_unavailable, k_out_of_range.
    """
    can_enhance = service.pipeline.engine.can_enhance
    if options.enhance and not can_enhance:
        raise Problem("enhancement_unavailable", errors=[ItemError("/enhance", "enhancement_unavailable")])
    enhance = can_enhance if options.enhance is None else options.enhance
    return Ask(enhance=enhance, k=choose_k(service, options.k), neighbours=options.return_neighbours)


_WEIGHT = re.compile(r"q\s*=\s*([01](?:\.\d{0,3})?)")
_IMAGE_EXAMPLES = {
    "base64": {"images": [BASE64_PIXEL]},
    "data_uri": {"images": [f"data:image/gif;base64,{BASE64_PIXEL}"], "return_neighbours": True, "k": 5},
}
_TEXT_EXAMPLES = {
    "one": {"texts": "a photo of a puffin"},
    "several": {"texts": ["a puffin", "a razorbill"], "enhance": False, "encoding_format": "base64"},
}
