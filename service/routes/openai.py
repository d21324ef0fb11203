"""`POST /v1/embeddings` and `GET /v1/models`: for clients that speak OpenAI's protocol."""

import time
from functools import partial
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from service import rendering
from service.door.receive import unless_client_leaves
from service.forms.openai import PLAIN, EmbeddingsRequest, Inputs, asks_for_plain, check_dimensions, split_inputs
from service.lifecycle import Service
from service.pipeline.degrading import plain_if_degraded
from service.pipeline.pipeline import Ask, Outcome
from service.pipeline.trace import Trace
from service.pipeline.waiting import together
from service.problems import ItemError
from service.routes.off_loop import LARGE_ANSWER_NUMBERS, off_loop
from service.routes.openapi import (
    BASE64_PIXEL,
    IMAGES,
    TEXTS,
    TRANSPORT,
    answer,
    json_body,
    openai_problems,
    path_parameter,
)
from service.routes.receiving import choose_k, receive_json, refuse_bad_items
from service.schemas.answers import ModelsAnswer, OpenAIAnswer, OpenAIModel
from service.schemas.requests import validate

_EXAMPLES = {
    "text": {"model": "reco", "input": "a photo of a puffin"},
    "texts_and_images": {
        "model": "reco",
        "input": ["a puffin", f"data:image/gif;base64,{BASE64_PIXEL}"],
        "encoding_format": "base64",
    },
    "jina": {"model": "reco:plain", "input": [{"text": "a puffin"}, {"image": BASE64_PIXEL}], "normalized": True},
}
_MODEL_NAME = path_parameter("model", "A name from /v1/models.")


def router(service: Service) -> APIRouter:
    """The OpenAI-compatible routes of an app."""
    routes = APIRouter(tags=["openai"])
    created = int(time.time())  # OpenAI's field; here, when this process began to serve the model

    @routes.post(
        "/v1/embeddings",
        operation_id="openai_embeddings",
        summary="Embed texts and images (OpenAI-compatible)",
        responses={**answer(OpenAIAnswer), **openai_problems(*TRANSPORT, *IMAGES, *TEXTS, *_CODES)},
        openapi_extra={"requestBody": json_body(EmbeddingsRequest, _EXAMPLES)},
    )
    async def embeddings(request: Request) -> Response:
        """For the `openai` client and what is built on it. The model's name chooses: `NAME` or `NAME:plain`."""
        options, inputs = await _receive(request, service)
        return await unless_client_leaves(request, _embed(request, service, options, inputs))

    @routes.get(
        "/v1/models",
        operation_id="openai_models",
        summary="List the models (OpenAI-compatible)",
        response_model=None,
        responses={**answer(ModelsAnswer), **openai_problems("not_ready", "internal_error")},
    )
    async def models() -> dict[str, Any]:
        """The served model, and `:plain`, its frozen encoder."""
        return {"object": "list", "data": [_describe(service, plain, created) for plain in (False, True)]}

    @routes.get(
        "/v1/models/{model:path}",
        operation_id="openai_model",
        summary="Describe a model (OpenAI-compatible)",
        response_model=None,
        responses={**answer(OpenAIModel), **openai_problems("model_not_found", "not_ready", "internal_error")},
        openapi_extra={"parameters": [_MODEL_NAME]},  # FastAPI's own would bring its own form of a 422
    )
    async def model(request: Request) -> dict[str, Any]:
        """One model by its name."""
        return _describe(service, asks_for_plain(request.path_params["model"], service.model_name), created)

    return routes


_CODES = ("option_conflict", "model_not_found", "token_ids_unsupported", "dimensions_unsupported")


async def _receive(request: Request, service: Service) -> tuple[EmbeddingsRequest, Inputs]:
    settings, engine = service.settings, service.pipeline.engine
    values, large = await receive_json(request, settings)
    options = validate(EmbeddingsRequest, values)
    asks_for_plain(options.model, service.model_name)
    check_dimensions(options.dimensions, engine.encoder.embed_dim)
    split = partial(split_inputs, options.input, settings)
    inputs = await off_loop(split, large=large)
    request.state.items = inputs.count
    refuse_bad_items(inputs.images, "fail", settings)
    return options, inputs


async def _embed(request: Request, service: Service, options: EmbeddingsRequest, inputs: Inputs) -> Response:
    pipeline, served = service.pipeline, service.model_name
    engine = pipeline.engine
    encoding_format = options.format()
    enhance = engine.can_enhance and not asks_for_plain(options.model, served)
    ask, deadline, trace = Ask(enhance=enhance, k=choose_k(service, None)), pipeline.deadline(), Trace()
    outcomes: list[Outcome | None] = [None] * inputs.count

    async def images() -> None:
        found = await pipeline.embed_images(inputs.images, ask, deadline, trace)
        for place, outcome in zip(inputs.image_places, found, strict=True):
            if isinstance(outcome, ItemError):  # the pipeline counts images alone
                outcome = ItemError(inputs.pointer(place), outcome.code)
            outcomes[place] = outcome

    async def texts() -> None:
        pointers = [inputs.pointer(place) for place in inputs.text_places]
        found, _ = await pipeline.embed_texts(inputs.texts, pointers, ask, deadline, trace)
        for place, outcome in zip(inputs.text_places, found, strict=True):
            outcomes[place] = outcome

    await together([work() for work, items in ((images, inputs.images), (texts, inputs.texts)) if items])
    request.state.timing = trace.seconds()
    refuse_bad_items(outcomes, "fail", service.settings)
    whole, degraded = plain_if_degraded([outcome for outcome in outcomes if outcome is not None])
    found = [outcome for outcome in whole if not isinstance(outcome, ItemError)]
    render = partial(
        rendering.openai_json,
        engine,
        options.model,
        found,
        encoding_format,
        enhanced=enhance,
        degraded=degraded,
        tokens=trace.tokens,
    )
    content = await off_loop(render, large=inputs.count * engine.encoder.embed_dim > LARGE_ANSWER_NUMBERS)
    headers = rendering.headers(engine, options.model, enhanced=enhance, degraded=degraded)
    return Response(content, media_type="application/json", headers=headers)


def _describe(service: Service, plain: bool, created: int) -> dict[str, Any]:
    engine = service.pipeline.engine
    enhanced = engine.can_enhance and not plain
    name = service.model_name + PLAIN * plain
    return {
        **rendering.head(engine, name, enhanced=enhanced),
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "reco",
        "enhanced": enhanced,
        "embed_dim": engine.encoder.embed_dim,
        "modalities": ["text", "image"],
    }
