"""`GET /`: the page, its files, the pictures it offers to try, and the evaluation it shows. Not part of the API."""

import asyncio
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from service.lifecycle import Service
from service.memory_items.image_bytes import not_modified
from service.page.evaluation import Evaluation
from service.page.files import INDEX, gallery_response, page_files
from service.page.pictures import PictureResponse
from service.page.samples import Samples
from service.problems import Problem


def router(service: Service) -> APIRouter:
    """The page's routes of an app.

    Raises:
        SettingsError: RECO_SAMPLES names no usable folder.
    """
    routes = APIRouter(tags=["page"], include_in_schema=False)
    files = page_files()
    evaluation = Evaluation.of(service.settings.evaluation, service.settings.fusion)
    samples = Samples.open(service.settings.samples, max_bytes=service.settings.max_image_bytes)

    @routes.get("/")
    async def index(request: Request) -> Response:
        return files[INDEX].answer(request)

    @routes.get("/page/{name}")
    async def asset(request: Request, name: str) -> Response:
        if name not in files:
            raise Problem("not_found")
        return files[name].answer(request)

    @routes.get("/samples", response_model=None)
    async def listed() -> dict[str, Any]:
        return {"samples": samples.describe()}

    @routes.get("/samples/{name}")
    async def sample(request: Request, name: str) -> Response:
        picture = await asyncio.to_thread(samples.open_picture, name)
        if picture is None:
            raise Problem("not_found")
        unchanged = not_modified(request, picture.known.etag)
        if unchanged is None:
            return PictureResponse(picture)
        picture.file.close()
        return unchanged

    @routes.get("/evaluation", response_model=None)
    async def evaluated() -> dict[str, Any]:
        engine = service.pipeline.engine
        return await asyncio.to_thread(evaluation.describe, fusion=engine.fusion_id, digest=engine.memory.digest)

    @routes.get("/evaluation/gallery")
    async def gallery() -> Response:
        page = await asyncio.to_thread(evaluation.gallery)
        if page is None:
            raise Problem("not_found")
        return gallery_response(page)

    return routes
