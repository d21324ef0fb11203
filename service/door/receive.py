"""Receiving a request: refusals that need no body, the body up to its limit, and a client that leaves.

Depends on starlette, bodies and problems.
"""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from service.door.bodies import Share
from service.problems import Problem

Result = TypeVar("Result")


class ClientLeft(Exception):  # noqa: N818
    """The connection is gone: there is nobody to answer, and what was queued is dropped."""


async def read_body(request: Request, max_bytes: int) -> bytes:
    """The whole body, which counts in the room that the door gave the request.

    The seconds that it took to come are the client's, and noted as such: `state["received"]`.

    Raises:
        Problem: content_encoding_unsupported; body_too_large and bodies_full, before reading if the length is declared.
        ClientLeft: it hung up in the middle.
    """
    encodings = ",".join(request.headers.getlist("content-encoding")).lower().split(",")
    if any(one.strip() not in ("", "identity") for one in encodings):
        raise Problem("content_encoding_unsupported")
    too_large = Problem("body_too_large", extensions={"limit": max_bytes})
    share: Share = request.state.body
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit():
        if int(declared[:20]) > max_bytes:
            raise too_large
        share.announce(int(declared))
    body = bytearray()
    started = time.perf_counter()
    try:
        async for chunk in request.stream():
            if len(body) + len(chunk) > max_bytes:
                raise too_large
            share.take(len(chunk))
            body += chunk
    except ClientDisconnect:
        raise ClientLeft from None
    finally:
        request.scope["state"]["received"] = time.perf_counter() - started
    return bytes(body)


async def unless_client_leaves(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Run `work`, and cancel it when the client hangs up: a place in a batch is not spent on nobody.

    Raises:
        ClientLeft: the client hung up first.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    gone.add_done_callback(lambda _: task.cancel())
    try:
        return await task
    except asyncio.CancelledError:
        if not gone.done() or gone.cancelled():
            task.cancel()  # this request itself is being ended, and its work with it
            raise
    finally:
        gone.cancel()
    raise ClientLeft  # here, where it holds nothing of the work that was cancelled


async def _disconnected(request: Request) -> None:
    """Returns when the server says so; the body has been read, so nothing else can come."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
